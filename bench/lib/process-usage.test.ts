import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseStat, parseStatus, processUsage } from './process-usage.ts';

test('utime and stime are fields 14 and 15, whatever the process is called', () => {
  const rest = 'S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 5 0 100';
  assert.equal(parseStat(`42 (tor) ${rest}`), 4);
  assert.equal(parseStat(`42 (a) b) (c) ${rest}`), 4);
  assert.equal(parseStat('nonsense'), undefined);
});

test('resident memory is VmRSS in KiB', () => {
  assert.equal(parseStatus('Name:\tx\nVmRSS:\t  1024 kB\nThreads:\t3\n'), 1_048_576);
  assert.equal(parseStatus('Name:\tx\n'), undefined);
});

test('this process uses CPU and memory; one that is not there gives no numbers', {
  skip: process.platform !== 'linux',
}, () => {
  const before = processUsage(process.pid);
  assert.ok(before && before.rssBytes > 1e7);
  const end = performance.now() + 60;
  while (performance.now() < end);
  assert.ok(processUsage(process.pid)!.cpuSeconds > before.cpuSeconds);
  assert.equal(processUsage(2 ** 22 + 1), undefined);
});
