// Loaded before every test file by scripts/check.mjs: properties draw the same values on every run, so that a change is judged
// by what it changed. NYX_PROPERTY_SEED=n draws others; `random` as many as there are runs.
import fc from 'fast-check';

const seed = process.env.NYX_PROPERTY_SEED ?? '20261';
if (seed !== 'random') fc.configureGlobal({ seed: Number(seed) | 0 });
