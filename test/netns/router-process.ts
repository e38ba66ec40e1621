/**
 * The router between the hosts, a process of its own: TUN devices on one side, packet-switch.ts on the other. It waits in
 * one blocking call for packets, for its time, and for commands: JSON lines on stdin, each answered by one on stdout. It
 * ends with its stdin, and its devices with it.
 */
import { closeSync, writeSync } from 'node:fs';
import type { Impairment } from './impairment.ts';
import { PACKET_BYTES, PacketSwitch, type PortOptions } from './packet-switch.ts';
import { openTun, ReadyDescriptors, readPacket, writePacket } from './tun.ts';

export type RouterCommand =
  | { readonly do: 'attach'; readonly device: string; readonly port: PortOptions }
  | { readonly do: 'impair'; readonly id: string; readonly up?: Impairment; readonly down?: Impairment }
  | { readonly do: 'partition'; readonly parts: Readonly<Record<string, number>> }
  | { readonly do: 'rebind'; readonly id: string }
  | { readonly do: 'firsts'; readonly id: string }
  | { readonly do: 'count' };

export type RouterAnswer =
  | { readonly ok: true; readonly value?: unknown }
  | { readonly ok: false; readonly why: string };

/** Enough for 300 Mbit/s with half a second between the ends. */
const PACKETS = 16_384;
/** Packets of one device in one go, so that the others have their turn. */
const BURST = 64;
const STDIN = 0;
const STDOUT = 1;

/** Of performance.now() to the machine's monotonic clock. */
const CLOCK_OFFSET_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

const machineTime = (ms: number | undefined): number | undefined =>
  ms === undefined ? undefined : ms + CLOCK_OFFSET_MS;

function run(seed: number): void {
  const ready = new ReadyDescriptors();
  const descriptors: number[] = [];
  const portOf = new Map<number, number>();
  let refused = 0;
  const network = new PacketSwitch({ seed, packets: PACKETS }, (port, packet, sizeBytes) => {
    if (!writePacket(descriptors[port]!, packet, sizeBytes)) refused++;
  });
  /** Where packets are read to, and thrown away, when no buffer is left: the device's queue must not stand still. */
  const spare = new Uint8Array(PACKET_BYTES);

  const execute = (command: RouterCommand): unknown => {
    switch (command.do) {
      case 'attach': {
        const fd = openTun(command.device);
        const port = network.add(command.port);
        descriptors[port] = fd;
        portOf.set(fd, port);
        ready.add(fd);
        return undefined;
      }
      case 'impair':
        return network.impair(command.id, command);
      case 'partition':
        return network.partition(command.parts);
      case 'rebind':
        return network.rebind(command.id);
      case 'firsts': {
        const { upMs, downMs } = network.firsts(command.id);
        return { upMs: machineTime(upMs), downMs: machineTime(downMs) };
      }
      case 'count':
        return { ...network.counted(), refused, cpu: process.cpuUsage(), rssBytes: process.memoryUsage.rss() };
    }
  };

  const input = new Uint8Array(65_536);
  let text = '';
  /** False at the end of stdin. */
  const readCommands = (): boolean => {
    const size = readPacket(STDIN, input);
    if (size <= 0) return false;
    text += Buffer.from(input.subarray(0, size)).toString('latin1');
    const lines = text.split('\n');
    text = lines.pop()!;
    for (const line of lines) {
      let answer: RouterAnswer;
      try {
        answer = { ok: true, value: execute(JSON.parse(line) as RouterCommand) };
      } catch (error) {
        answer = { ok: false, why: (error as Error).message };
      }
      writeSync(STDOUT, `${JSON.stringify(answer)}\n`);
    }
    return true;
  };

  const drain = (fd: number): void => {
    const port = portOf.get(fd)!;
    for (let i = 0; i < BURST; i++) {
      const buffer = network.buffer;
      const size = readPacket(fd, buffer ?? spare);
      if (size <= 0) return;
      if (buffer === undefined) network.counts.noBuffer++;
      else network.receive(port, size, performance.now());
    }
  };

  ready.add(STDIN);
  for (;;) {
    const count = ready.wait(Math.max(0, network.nextMs - performance.now()));
    network.run(performance.now());
    for (let i = 0; i < count; i++) {
      const fd = ready.ready[i]!;
      if (fd === STDIN) {
        if (!readCommands()) return;
      } else if (ready.gone[i] === 1) {
        ready.remove(fd);
        closeSync(fd);
      } else {
        drain(fd);
      }
    }
    network.run(performance.now());
  }
}

// Ctrl-C in the terminal is for the command that started this, which then closes stdin in its own order.
process.on('SIGINT', () => {});
run(Number(process.argv[2]));
