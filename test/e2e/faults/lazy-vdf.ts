/** The delay function of a mix that does not want to wait: it squares once and claims the rest. */
import type { RsaGroup } from '@nyx/core/mix/rsa-group.ts';
import type { Evaluation, Turns } from '@nyx/core/mix/vdf.ts';

export * from '@nyx/core/mix/vdf.ts';

// biome-ignore lint/correctness/useYield: it stands for one that does.
export function* evaluate(group: RsaGroup, input: bigint, squarings: number): Turns<Evaluation> {
  return { input, output: group.multiply(input, input), squarings, kept: [input] };
}
