/**
 * Country and autonomous system of addresses, from the tables of two npm packages (about 45 MB of text on disk). The
 * tables are read in pieces, once for all addresses asked about, and nothing of them is kept but the answers: a daemon
 * that knows 10 000 nodes holds 10 000 answers.
 *
 *   rows: first address, last address, what it is …          as decimal numbers, ascending
 */
import { createReadStream } from 'node:fs';
import { createRequire } from 'node:module';
import { isIPv4 } from 'node:net';
import { parseAddress, specialRange } from '@nyx/core/directory/address.ts';
import type { AddressOrigin } from '@nyx/core/path/candidates.ts';

const require = createRequire(import.meta.url);
const MAX_KEPT = 100_000;

/** Addresses of special ranges, which no table has, are not asked about. */
export class IpOrigins {
  readonly #tables: (name: keyof typeof packages, family: 4 | 6) => string;
  readonly #known = new Map<string, AddressOrigin>();

  /** `tables` gives the path of a table; default: the installed packages'. */
  constructor(tables: (name: keyof typeof packages, family: 4 | 6) => string = installedTable) {
    this.#tables = tables;
  }

  /** Answers by address, for all that some table knows. Rejects when a table can't be read. */
  async lookup(addresses: Iterable<string>): Promise<ReadonlyMap<string, AddressOrigin>> {
    const wanted = [...new Set(addresses)];
    const open = wanted.filter((address) => !this.#known.has(address)).flatMap((address) => toQuery(address) ?? []);
    for (const family of [4, 6] as const) {
      const queries = open.filter((query) => query.family === family).sort((a, b) => compare(a.number, b.number));
      if (queries.length === 0) continue;
      const countries = await readTable(this.#tables('country', family), queries);
      const systems = await readTable(this.#tables('asn', family), queries);
      for (const { address } of queries) {
        if (this.#known.size >= MAX_KEPT) this.#known.delete(this.#known.keys().next().value!);
        const asn = Number(systems.get(address));
        const country = countries.get(address);
        this.#known.set(address, {
          country: country !== undefined && /^[A-Z]{2}$/.test(country) ? country : undefined,
          asn: Number.isInteger(asn) && asn > 0 ? asn : undefined,
        });
      }
    }
    return new Map(
      wanted.flatMap((address) => {
        const origin = this.#known.get(address);
        return origin === undefined ? [] : [[address, origin] as const];
      }),
    );
  }
}

const packages = { country: '@ip-location-db/asn-country', asn: '@ip-location-db/asn' } as const;

function installedTable(name: keyof typeof packages, family: 4 | 6): string {
  return name === 'asn'
    ? require.resolve(`@ip-location-db/asn/asn-ipv${family}-num.csv`)
    : require.resolve(`@ip-location-db/asn-country/asn-country-ipv${family}-num.csv`);
}

interface Query {
  readonly address: string;
  readonly family: 4 | 6;
  /** The address as a decimal number without leading zeros. */
  readonly number: string;
}

function toQuery(address: string): Query | undefined {
  const parsed = parseAddress(address);
  if (parsed === undefined || specialRange(parsed) !== undefined) return undefined;
  const hex = Buffer.from(parsed.toByteArray()).toString('hex');
  return { address, family: isIPv4(address) ? 4 : 6, number: BigInt(`0x${hex}`).toString() };
}

/** Order of decimal numbers as text. */
const compare = (a: string, b: string): number => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);

/** The third column by address. `queries` ascend, as the rows do: one pass, a piece at a time. */
async function readTable(path: string, queries: readonly Query[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  let next = 0;
  let rest = '';
  for await (const piece of createReadStream(path, { highWaterMark: 256 * 1024, encoding: 'latin1' })) {
    const text = rest + (piece as string);
    let at = 0;
    for (;;) {
      const end = text.indexOf('\n', at);
      if (end < 0) break;
      const comma = text.indexOf(',', at);
      const second = text.indexOf(',', comma + 1);
      const last = text.slice(comma + 1, second);
      // Who lies before this row's end either lies in it or in no row.
      while (next < queries.length && compare(queries[next]!.number, last) <= 0) {
        const query = queries[next++]!;
        if (compare(text.slice(at, comma), query.number) > 0) continue;
        const third = text.slice(second + 1, end);
        const stop = third.indexOf(',');
        found.set(query.address, stop < 0 ? third.trimEnd() : third.slice(0, stop));
      }
      if (next === queries.length) return found;
      at = end + 1;
    }
    rest = text.slice(at);
    if (rest.length > 4096)
      throw new Error(`${path} is not a table of address ranges: a line has over 4096 characters`);
  }
  return found;
}
