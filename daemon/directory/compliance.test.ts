import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultConfig } from '../config/load.ts';
import { complianceOf } from './compliance.ts';

const directory = { sources: ['x'], authorities: { keys: ['ab'.repeat(32)] } };

test('a node claims full unless class cmix is switched off', () => {
  assert.equal(complianceOf(defaultConfig({ directory })), 'full');
  assert.equal(complianceOf(defaultConfig({ directory, cmix: { enabled: false } })), 'plus');
});
