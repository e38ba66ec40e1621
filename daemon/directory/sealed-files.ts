/**
 * The node's private files: written atomically, readable by their owner alone, and encrypted if there is a passphrase
 * (argon2id → XChaCha20-Poly1305, the file's name as associated data). Without one they are protected by file
 * permissions only, which `encrypted` says.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

interface Sodium {
  readonly crypto_pwhash_SALTBYTES: number;
  readonly crypto_pwhash_OPSLIMIT_MODERATE: number;
  readonly crypto_pwhash_MEMLIMIT_MODERATE: number;
  readonly crypto_pwhash_ALG_ARGON2ID13: number;
  crypto_pwhash(
    out: Buffer,
    passphrase: Buffer,
    salt: Buffer,
    opslimit: number,
    memlimit: number,
    algorithm: number,
  ): void;
  crypto_aead_xchacha20poly1305_ietf_encrypt(
    out: Buffer,
    message: Buffer,
    ad: Buffer,
    nsec: null,
    nonce: Buffer,
    key: Buffer,
  ): number;
  crypto_aead_xchacha20poly1305_ietf_decrypt(
    out: Buffer,
    nsec: null,
    ciphertext: Buffer,
    ad: Buffer,
    nonce: Buffer,
    key: Buffer,
  ): number;
  sodium_memzero(buffer: Buffer): void;
}

const MAGIC = Buffer.from('NYXS');
const HEADER = 'keystore.json';
const NONCE_BYTES = 24;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
const MAX_FILE_BYTES = 16 * 1024 * 1024;

export const KeyStoreErrorCode = {
  permissions: 'PERMISSIONS',
  passphrase: 'PASSPHRASE',
  corrupt: 'CORRUPT',
  io: 'IO',
} as const;
export type KeyStoreErrorCode = (typeof KeyStoreErrorCode)[keyof typeof KeyStoreErrorCode];

/** The message says which file, what is wrong and what to do. */
export class KeyStoreError extends Error {
  readonly code: KeyStoreErrorCode;
  constructor(code: KeyStoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'KeyStoreError';
    this.code = code;
  }
}

/** Cost of the passphrase's argon2id; lower only in tests. */
export interface KdfCost {
  readonly opslimit: number;
  readonly memlimitBytes: number;
}

export class SealedFiles {
  readonly folder: string;
  readonly #key: Buffer | undefined;
  readonly #sodium: Sodium | undefined;

  /**
   * Opens or creates the folder. Throws KeyStoreError: PERMISSIONS (others can read or write), PASSPHRASE (missing,
   * wrong, or given for an unencrypted store), CORRUPT. Wipes `passphrase`.
   */
  constructor(folder: string, passphrase?: Buffer, cost?: KdfCost) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    assertPrivate(folder);
    const header = this.#readHeader();
    if (header === undefined) {
      if (passphrase === undefined) {
        this.#writeHeader({ version: 1, encrypted: false });
        return;
      }
      this.#sodium = loadSodium();
      const opslimit = cost?.opslimit ?? this.#sodium.crypto_pwhash_OPSLIMIT_MODERATE;
      const memlimitBytes = cost?.memlimitBytes ?? this.#sodium.crypto_pwhash_MEMLIMIT_MODERATE;
      const salt = randomBytes(this.#sodium.crypto_pwhash_SALTBYTES);
      this.#key = this.#derive(passphrase, salt, { opslimit, memlimitBytes });
      const check = this.#seal(HEADER, Buffer.from('nyx'));
      this.#writeHeader({
        version: 1,
        encrypted: true,
        kdf: 'argon2id13',
        salt: salt.toString('hex'),
        opslimit,
        memlimitBytes,
        check: check.toString('hex'),
      });
      return;
    }
    if (!header.encrypted) {
      if (passphrase === undefined) return;
      throw new KeyStoreError(
        KeyStoreErrorCode.passphrase,
        `${folder} is not encrypted, but a passphrase was given; remove the passphrase, or move the folder away to make new keys`,
      );
    }
    if (passphrase === undefined) {
      throw new KeyStoreError(
        KeyStoreErrorCode.passphrase,
        `${folder} is encrypted; give its passphrase (keys.passphraseFile or keys.passphraseEnv)`,
      );
    }
    this.#sodium = loadSodium();
    this.#key = this.#derive(passphrase, Buffer.from(header.salt, 'hex'), header);
    try {
      this.#open(HEADER, Buffer.from(header.check, 'hex'));
    } catch {
      throw new KeyStoreError(KeyStoreErrorCode.passphrase, `the passphrase does not open ${folder}`);
    }
  }

  get encrypted(): boolean {
    return this.#key !== undefined;
  }

  /** Undefined when there is no such file. Throws KeyStoreError. The caller wipes what it got. */
  read(name: string): Buffer | undefined {
    const bytes = this.#readRaw(name);
    if (bytes === undefined) return undefined;
    if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw this.#corrupt(name, 'does not begin with NYXS');
    const body = bytes.subarray(MAGIC.length);
    if (this.#key === undefined) return body;
    try {
      return this.#open(name, body);
    } catch (error) {
      throw this.#corrupt(name, 'does not decrypt', error);
    }
  }

  /** Replaces a file atomically: after a crash at any moment the old or the new one is there. Borrows `content`. */
  write(name: string, content: Uint8Array): void {
    const body = this.#key === undefined ? Buffer.from(content) : this.#seal(name, Buffer.from(content));
    writeAtomically(join(this.folder, name), Buffer.concat([MAGIC, body]));
  }

  remove(name: string): void {
    rmSync(join(this.folder, name), { force: true });
  }

  #readRaw(name: string): Buffer | undefined {
    const path = join(this.folder, name);
    try {
      assertPrivate(path);
      const { size } = statSync(path);
      if (size > MAX_FILE_BYTES) throw this.#corrupt(name, `has ${size} bytes; at most ${MAX_FILE_BYTES} are read`);
      return readFileSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      if (error instanceof KeyStoreError) throw error;
      throw new KeyStoreError(KeyStoreErrorCode.io, `${path} cannot be read: ${(error as Error).message}`);
    }
  }

  #readHeader(): Header | undefined {
    const bytes = this.#readRaw(HEADER);
    if (bytes === undefined) return undefined;
    let value: Partial<Record<keyof Header, unknown>> | null;
    try {
      value = JSON.parse(bytes.toString('utf8')) as typeof value;
    } catch (error) {
      throw this.#corrupt(HEADER, 'is not JSON', error);
    }
    if (value?.version !== 1 || typeof value.encrypted !== 'boolean') throw this.#corrupt(HEADER, 'is not version 1');
    if (!value.encrypted) return { version: 1, encrypted: false };
    const { salt, opslimit, memlimitBytes, check } = value;
    if (
      typeof salt !== 'string' ||
      typeof check !== 'string' ||
      !Number.isInteger(opslimit) ||
      !Number.isInteger(memlimitBytes) ||
      (memlimitBytes as number) > 4 * 2 ** 30
    ) {
      throw this.#corrupt(HEADER, 'lacks a key derivation that can be used');
    }
    return {
      version: 1,
      encrypted: true,
      kdf: 'argon2id13',
      salt,
      opslimit: opslimit as number,
      memlimitBytes: memlimitBytes as number,
      check,
    };
  }

  #writeHeader(header: Header): void {
    writeAtomically(join(this.folder, HEADER), Buffer.from(`${JSON.stringify(header)}\n`));
  }

  #derive(passphrase: Buffer, salt: Buffer, { opslimit, memlimitBytes }: KdfCost): Buffer {
    const sodium = this.#sodium!;
    const key = Buffer.alloc(KEY_BYTES);
    try {
      sodium.crypto_pwhash(key, passphrase, salt, opslimit, memlimitBytes, sodium.crypto_pwhash_ALG_ARGON2ID13);
    } catch (error) {
      throw this.#corrupt(HEADER, 'has a key derivation that fails', error);
    } finally {
      sodium.sodium_memzero(passphrase);
    }
    return key;
  }

  #seal(name: string, content: Buffer): Buffer {
    const nonce = randomBytes(NONCE_BYTES);
    const sealed = Buffer.alloc(content.length + TAG_BYTES);
    this.#sodium!.crypto_aead_xchacha20poly1305_ietf_encrypt(
      sealed,
      content,
      associatedData(name),
      null,
      nonce,
      this.#key!,
    );
    return Buffer.concat([nonce, sealed]);
  }

  #open(name: string, body: Buffer): Buffer {
    if (body.length < NONCE_BYTES + TAG_BYTES) throw new Error('too short');
    const content = Buffer.alloc(body.length - NONCE_BYTES - TAG_BYTES);
    this.#sodium!.crypto_aead_xchacha20poly1305_ietf_decrypt(
      content,
      null,
      body.subarray(NONCE_BYTES),
      associatedData(name),
      body.subarray(0, NONCE_BYTES),
      this.#key!,
    );
    return content;
  }

  #corrupt(name: string, problem: string, cause?: unknown): KeyStoreError {
    const path = join(this.folder, name);
    return new KeyStoreError(KeyStoreErrorCode.corrupt, `${path} ${problem}; restore it from a backup`, { cause });
  }
}

type Header =
  | { readonly version: 1; readonly encrypted: false; readonly [unused: string]: unknown }
  | {
      readonly version: 1;
      readonly encrypted: true;
      readonly kdf: 'argon2id13';
      readonly salt: string;
      readonly opslimit: number;
      readonly memlimitBytes: number;
      readonly check: string;
    };

/** Writes beside and renames over; file and folder are flushed, so that a power cut leaves the old or the new. */
export const writeAtomically = (path: string, content: Uint8Array): void => {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    const file = openSync(temporary, 'wx', 0o600);
    try {
      for (let at = 0; at < content.length; ) at += writeSync(file, content, at);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    chmodSync(temporary, 0o600);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  if (process.platform === 'win32') return;
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
};

/** writeAtomically for large files: the thread goes on while the disk writes. */
export const writeDurably = async (path: string, content: Uint8Array): Promise<void> => {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (process.platform === 'win32') return;
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
};

/** Throws KeyStoreError PERMISSIONS when group or others may do anything with it. Windows has no such modes. */
export const assertPrivate = (path: string): void => {
  if (process.platform === 'win32') return;
  const { mode } = statSync(path);
  if ((mode & 0o077) === 0) return;
  const shown = (mode & 0o777).toString(8).padStart(4, '0');
  throw new KeyStoreError(
    KeyStoreErrorCode.permissions,
    `${path} has mode ${shown}, so others can get at the keys; run: chmod go-rwx ${path}`,
  );
};

const associatedData = (name: string): Buffer => Buffer.from(`nyx1 sealed file\0${name}`);

// Loaded only where there is a passphrase: it costs memory.
const loadSodium = (): Sodium => createRequire(import.meta.url)('sodium-native') as Sodium;
