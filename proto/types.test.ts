import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import protobuf from 'protobufjs';
import { protoPath } from './load.ts';

/** Interfaces of types.ts: name → field → optional. */
const interfaces = (): Map<string, Map<string, boolean>> => {
  const source = readFileSync(new URL('./types.ts', import.meta.url), 'utf8');
  const found = new Map<string, Map<string, boolean>>();
  for (const match of source.matchAll(/export interface (\w+) \{\n([\s\S]*?)\n\}/g)) {
    const fields = new Map<string, boolean>();
    for (const field of match[2]!.matchAll(/^ {2}(\w+)(\??):/gm)) fields.set(field[1]!, field[2] === '?');
    found.set(match[1]!, fields);
  }
  return found;
};

test('the hand-written types have exactly the fields of nyx.proto', () => {
  const root = new protobuf.Root();
  root.loadSync(protoPath, { keepCase: false });
  const known = interfaces();
  let checked = 0;
  for (const type of root.lookup('nyx.api.v1') instanceof protobuf.Namespace
    ? (root.lookup('nyx.api.v1') as protobuf.Namespace).nestedArray
    : []) {
    if (!(type instanceof protobuf.Type) || type.fieldsArray.length === 0 || type.name === 'Reset') continue;
    const fields = known.get(type.name);
    assert.ok(fields, `${type.name} has no interface in types.ts`);
    const oneofs = type.oneofsArray.filter((oneof) => !oneof.name.startsWith('_')).map((oneof) => oneof.name);
    const expected = [...type.fieldsArray.map((field) => field.name), ...oneofs].sort();
    assert.deepEqual([...fields.keys()].sort(), expected, type.name);
    for (const field of type.fieldsArray) {
      const isMessage = !field.repeated && !field.map && root.lookup(field.type) instanceof protobuf.Type;
      assert.equal(fields.get(field.name), field.partOf != null || isMessage, `${type.name}.${field.name} optional`);
    }
    checked++;
  }
  assert.ok(checked > 25, `only ${checked} messages checked`);
});
