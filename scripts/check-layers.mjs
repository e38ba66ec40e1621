// Checks who imports whom (.dependency-cruiser.mjs). A check that read nothing would pass for ever, so it also asserts
// that every layer's files were seen.
import { cruise } from 'dependency-cruiser';
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config';
import config from '../.dependency-cruiser.mjs';

const layers = ['core', 'daemon', 'cli', 'sdk', 'proto', 'test', 'bench', 'formal'];
const { output } = await cruise(
  layers,
  { ...config.options, ruleSet: { forbidden: config.forbidden }, validate: true },
  config.options.enhancedResolveOptions,
  { tsConfig: extractTSConfig('tsconfig.json') },
);
const files = output.modules.map((module) => module.source).filter((source) => !source.includes('node_modules'));
for (const layer of layers) {
  if (!files.some((file) => file.startsWith(`${layer}/`) && file.endsWith('.ts'))) {
    console.error(`layers: no TypeScript file of ${layer}/ was read; the check would be empty`);
    process.exit(1);
  }
}
const violations = output.summary.violations.filter((violation) => violation.rule.severity === 'error');
for (const { from, to, rule } of violations) console.error(`layers: ${from} imports ${to} (${rule.name})`);
console.log(
  `layers: ${files.length} files, ${output.summary.totalDependenciesCruised} imports, ${violations.length} violations`,
);
process.exit(violations.length === 0 ? 0 : 1);
