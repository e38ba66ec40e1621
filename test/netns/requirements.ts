/** What has to be there before anything is made: root, `ip`, TUN devices; and whether the kernel could impair by itself. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';

/** Something that this command needs is missing: it can't run here at all. */
export class MissingRequirement extends Error {
  override readonly name = 'MissingRequirement';
}

/** Throws MissingRequirement that says what, and what would help. */
export function assertRequirements(): void {
  if (process.platform !== 'linux')
    throw new MissingRequirement(`network namespaces are Linux's; this is ${process.platform}`);
  if (process.getuid?.() !== 0) {
    throw new MissingRequirement(
      'making network namespaces needs root; run this as root, in a virtual machine if you like',
    );
  }
  try {
    execFileSync('ip', ['-V'], { stdio: 'ignore' });
  } catch {
    throw new MissingRequirement('there is no `ip`; install iproute2');
  }
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch {
    throw new MissingRequirement('there is no /dev/net/tun; load the module tun, or give the container that device');
  }
}

/** Whether `tc` can attach sch_netem here. Tried on a device of a namespace of its own. */
export function hasNetem(namespace: string): boolean {
  execFileSync('ip', ['netns', 'add', namespace], { stdio: 'pipe' });
  try {
    execFileSync(
      'ip',
      ['netns', 'exec', namespace, 'tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms'],
      {
        stdio: 'pipe',
      },
    );
    return true;
  } catch {
    return false; // no tc, or a kernel without netem: the same to us
  } finally {
    execFileSync('ip', ['netns', 'del', namespace], { stdio: 'pipe' });
  }
}
