import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { IpOrigins } from './ip-origins.ts';

test('addresses are looked up in ranges, over the ends of pieces, once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-origins-'));
  try {
    let reads = 0;
    const rows = (name: string, count: number) =>
      Array.from(
        { length: count },
        (_, i) =>
          `${0x1400_0000 + i * 512},${0x1400_0000 + i * 512 + 255},${name === 'asn' ? `${i + 1},"Net, ${i}"` : 'SE'}\n`,
      ).join('');
    const origins = new IpOrigins((name, family) => {
      reads++;
      const path = join(folder, `${name}-${family}`);
      const six = BigInt('0x2a000000000000000000000000000000');
      writeFileSync(
        path,
        family === 4 ? rows(name, 20_000) : `${six},${six + 65_535n},${name === 'asn' ? '77,x' : 'FI'}\r\n`,
      );
      return path;
    });
    const answers = await origins.lookup([
      '20.0.0.0',
      '20.0.0.255',
      '20.0.1.1',
      '20.156.62.9',
      '19.0.0.1',
      '20.0.2.1',
      '127.0.0.1',
      '10.0.0.1',
      '2a00::1',
      'x',
    ]);
    assert.deepEqual(answers.get('20.0.0.0'), { country: 'SE', asn: 1 });
    assert.deepEqual(answers.get('20.0.0.255'), { country: 'SE', asn: 1 });
    assert.deepEqual(answers.get('20.0.1.1'), { country: undefined, asn: undefined }); // between two ranges
    assert.deepEqual(answers.get('20.0.2.1'), { country: 'SE', asn: 2 });
    assert.deepEqual(answers.get('20.156.62.9'), { country: 'SE', asn: 20_000 });
    assert.deepEqual(answers.get('19.0.0.1'), { country: undefined, asn: undefined });
    assert.deepEqual(answers.get('2a00::1'), { country: 'FI', asn: 77 });
    assert.equal(answers.has('127.0.0.1') || answers.has('10.0.0.1') || answers.has('x'), false);
    assert.equal(reads, 4);
    await origins.lookup(['20.0.2.1', '127.0.0.1']);
    assert.equal(reads, 4);
    writeFileSync(join(folder, 'bad'), 'x'.repeat(10_000));
    await assert.rejects(
      new IpOrigins(() => join(folder, 'bad')).lookup(['20.0.0.1']),
      /not a table of address ranges/,
    );
    await assert.rejects(new IpOrigins(() => join(folder, 'none')).lookup(['20.0.0.1']), /ENOENT/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the installed tables know well-known addresses', async () => {
  const answers = await new IpOrigins().lookup([
    '8.8.8.8',
    '193.0.6.139',
    '2001:67c:2e8:22::c100:68b',
    '130.89.148.77',
  ]);
  assert.equal(answers.get('8.8.8.8')!.asn, 15_169);
  assert.deepEqual(answers.get('193.0.6.139'), { country: 'NL', asn: 3333 });
  assert.equal(answers.get('2001:67c:2e8:22::c100:68b')!.asn, 3333);
  assert.equal(answers.get('130.89.148.77')!.country, 'NL');
});
