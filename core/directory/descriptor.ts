/**
 * A node's descriptor: what it says about itself, signed with its identity key.
 *
 *   bytes = signature (64) ‖ body        body = deterministic CBOR map, at most 16 KiB with the signature
 *   signature = Ed25519(identity, "nyx1 descriptor" ‖ 0x00 ‖ body)        NodeID = BLAKE3-256(identity)
 */

import { nyxLabel } from '../crypto/key-schedule.ts';
import {
  type CryptoSuite,
  ED25519_PUBLIC_KEY_BYTES,
  ED25519_SIGNATURE_BYTES,
  MLKEM768_PUBLIC_KEY_BYTES,
  type SignKeyPair,
  X25519_BYTES,
} from '../crypto/suite.ts';
import type { MixPublicKeys, NodeContact } from '../engine/contract.ts';
import type { PeerAddress, UnixSeconds } from '../ports.ts';
import { isCanonicalAddress, isMappedAddress } from './address.ts';
import { joinBytes } from './bytes.ts';
import { DirectoryError, DirectoryErrorCode } from './directory-error.ts';
import { MAX_POLICY_RULES, parseExitPolicy } from './exit-policy.ts';
import { type FamilyProof, familySignature, isFamilyProved, MAX_PROVED_FAMILIES } from './family.ts';
import { workingAddresses } from './node-status.ts';
import { decodeCbor, encodeCbor, FieldReader, showValue } from './strict-cbor.ts';

export const DESCRIPTOR_VERSION = 1;
export const MAX_DESCRIPTOR_BYTES = 16 * 1024;
export const MAX_ADDRESSES = 8;
export const MAX_MIX_KEYS = 3;
export const MAX_FAMILIES = 16;
/** A descriptor is signed for at most this long. */
export const MAX_DESCRIPTOR_LIFETIME_SECONDS = 7 * 86_400;
export const NODE_ID_BYTES = 32;
export const ADMISSION_BYTES = 16;

export const ComplianceLevel = { core: 'core', plus: 'plus', full: 'full' } as const;
export type ComplianceLevel = (typeof ComplianceLevel)[keyof typeof ComplianceLevel];

/** What a node says about itself. */
export interface DescriptorFields {
  /** Ed25519 public key, 32 bytes. */
  readonly identity: Uint8Array;
  /** 32 bytes. */
  readonly linkX25519: Uint8Array;
  /** ML-KEM-768 public key, 1184 bytes. */
  readonly linkKem: Uint8Array;
  /** 1 to 3 epochs, ascending. */
  readonly mixKeys: readonly MixPublicKeys[];
  /** 1 to 8 literal addresses in canonical form, best first. */
  readonly addresses: readonly PeerAddress[];
  /** `mailbox`: keeps mailboxes of the message lane. */
  readonly roles: { readonly mix: boolean; readonly exit: boolean; readonly mailbox?: boolean };
  /** Rules of exit-policy.ts, at most 64; empty = nothing is accepted. */
  readonly exitPolicy: readonly string[];
  /** What the operator calls his families; not proved, so no rule goes by it. At most 16 names of 1 to 64 printable ASCII characters. */
  readonly family: readonly string[];
  /** Families that it is proved to be in (family.ts), at most 4. */
  readonly families?: readonly FamilyProof[];
  readonly compliance: ComplianceLevel;
  /** What the node offers to carry, as it says itself. */
  readonly bandwidthBytesPerSecond: number;
  /** 1 to 32 of A–Z a–z 0–9 . _ - */
  readonly nickname?: string;
  /** How its operator can be reached, in his own words: 1 to 256 printable ASCII characters, no space at either end. */
  readonly contact?: string;
  /** Where the node stands, as its operator says: an ISO 3166-1 alpha-2 code. Used where no table knows the address. */
  readonly region?: string;
  /** Solves the admission puzzle (admission.ts) for `identity` and the last of `mixKeys`' epochs, 16 bytes. */
  readonly admission?: Uint8Array;
  readonly published: UnixSeconds;
  readonly expires: UnixSeconds;
}

/** A signed descriptor, as made by signDescriptor or read by decodeDescriptor. */
export interface NodeDescriptor extends DescriptorFields {
  /** BLAKE3-256 of `identity`; never transmitted, always derived. */
  readonly nodeId: Uint8Array;
  /** Ed25519, 64 bytes. */
  readonly signature: Uint8Array;
  /** The signed CBOR body. */
  readonly body: Uint8Array;
}

const bodyKeys = [
  'version',
  'identity',
  'linkX25519',
  'linkKem',
  'mixKeys',
  'addresses',
  'mix',
  'exit',
  'mailbox',
  'exitPolicy',
  'family',
  'families',
  'compliance',
  'bandwidth',
  'nickname',
  'contact',
  'region',
  'admission',
  'published',
  'expires',
] as const;

const what = 'descriptor';
const familyPattern = /^[\x21-\x7e]{1,64}$/;
const nicknamePattern = /^[A-Za-z0-9._-]{1,32}$/;
const contactPattern = /^(?! )[\x20-\x7e]{1,256}(?<! )$/;
const regionPattern = /^[A-Z]{2}$/;

/** BLAKE3-256 of the Ed25519 identity public key. */
export function nodeIdOf(identity: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.blake3(identity);
}

/** Lower-case hex, the form in which NodeIDs are shown and used as map keys. */
export function nodeIdHex(nodeId: Uint8Array): string {
  let hex = '';
  for (const byte of nodeId) hex += (byte < 16 ? '0' : '') + byte.toString(16);
  return hex;
}

/** Signs `fields`. Throws DirectoryError when a field would not be accepted by others. */
export function signDescriptor(fields: DescriptorFields, identity: SignKeyPair, suite: CryptoSuite): NodeDescriptor {
  if (!suite.equal(fields.identity, identity.publicKey)) {
    throw new DirectoryError(DirectoryErrorCode.badField, `${what}: identity is not the key that signs`);
  }
  const body = encodeBody(fields);
  return decodeDescriptor(joinBytes(identity.sign(signedMessage(body)), body), suite);
}

/** The bytes that travel. Returns a new array. */
export function encodeDescriptor(descriptor: NodeDescriptor): Uint8Array {
  return joinBytes(descriptor.signature, descriptor.body);
}

/**
 * What a descriptor is known by among the authorities and in a view: SHA-256 of its bytes, 32 bytes. Not BLAKE3 as
 * elsewhere: over the 4 KB of each of thousands of nodes, what the processor does itself counts.
 */
export function descriptorDigest(bytes: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.sha256(nyxLabel('directory descriptor'), Uint8Array.of(0), bytes);
}

/**
 * Reads a descriptor and checks everything but its signature and its dates. Throws DirectoryError TOO_LARGE,
 * MALFORMED, UNSUPPORTED_VERSION, BAD_FIELD or BAD_POLICY. Keeps nothing of `bytes`.
 */
export function decodeDescriptor(bytes: Uint8Array, suite: CryptoSuite): NodeDescriptor {
  if (bytes.length > MAX_DESCRIPTOR_BYTES) {
    throw new DirectoryError(
      DirectoryErrorCode.tooLarge,
      `${what} of ${bytes.length} bytes; at most ${MAX_DESCRIPTOR_BYTES} are allowed`,
    );
  }
  if (bytes.length <= ED25519_SIGNATURE_BYTES) {
    throw new DirectoryError(DirectoryErrorCode.malformed, `${what} of ${bytes.length} bytes is too short`);
  }
  // Not slice(), which makes a view of the caller's memory when that is a Buffer.
  const signature = new Uint8Array(bytes.subarray(0, ED25519_SIGNATURE_BYTES));
  const body = new Uint8Array(bytes.subarray(ED25519_SIGNATURE_BYTES));
  const fields = decodeBody(body);
  return { ...fields, nodeId: nodeIdOf(fields.identity, suite), signature, body };
}

/**
 * Checks signature and dates. Throws DirectoryError BAD_SIGNATURE, NOT_YET_VALID or EXPIRED. A descriptor is valid from
 * `published` (less `clockSkewSeconds`) to before `expires`.
 */
export function verifyDescriptor(
  descriptor: NodeDescriptor,
  suite: CryptoSuite,
  now: UnixSeconds,
  clockSkewSeconds = 60,
): void {
  verifyDescriptorSignature(descriptor, suite);
  if (now + clockSkewSeconds < descriptor.published) {
    throw new DirectoryError(
      DirectoryErrorCode.notYetValid,
      `${what} of ${nodeIdHex(descriptor.nodeId)} is published at ${descriptor.published}, after now (${now})`,
    );
  }
  if (now >= descriptor.expires) {
    throw new DirectoryError(
      DirectoryErrorCode.expired,
      `${what} of ${nodeIdHex(descriptor.nodeId)} expired at ${descriptor.expires}; now is ${now}`,
    );
  }
}

export interface DescriptorSignature {
  /** Ed25519. */
  readonly key: Uint8Array;
  readonly signature: Uint8Array;
  readonly message: Uint8Array;
}

/** The signature and those of its families: all have to hold. */
export function descriptorSignatures(descriptor: NodeDescriptor): DescriptorSignature[] {
  const { identity, signature, body, families = [] } = descriptor;
  const own = { key: identity, signature, message: signedMessage(body) };
  return [own, ...families.map((family) => familySignature(family, identity))];
}

/** Checks the signature and those of its families alone. Throws DirectoryError BAD_SIGNATURE. */
export function verifyDescriptorSignature(descriptor: NodeDescriptor, suite: CryptoSuite): void {
  if (!suite.ed25519Verify(descriptor.identity, signedMessage(descriptor.body), descriptor.signature)) {
    throw new DirectoryError(
      DirectoryErrorCode.badSignature,
      `${what} of ${nodeIdHex(descriptor.nodeId)} is not signed by its identity key`,
    );
  }
  for (const family of descriptor.families ?? []) {
    if (isFamilyProved(family, descriptor.identity, suite)) continue;
    throw new DirectoryError(
      DirectoryErrorCode.badSignature,
      `${what} of ${nodeIdHex(descriptor.nodeId)} claims the family ${nodeIdHex(family.key)}, which has not certified it`,
    );
  }
}

/** Keys of the families that it is in, lower-case hex; proved where the descriptor's signature was checked. */
export function familyKeysOf({ families }: Pick<NodeDescriptor, 'families'>): string[] {
  return families?.map(({ key }) => nodeIdHex(key)) ?? [];
}

/** What the engine needs of a node. `flags`: what the authorities say of it (NodeFlag), of addresses that lead nowhere. */
export function toContact(descriptor: NodeDescriptor, flags = 0): NodeContact {
  return {
    nodeId: descriptor.nodeId,
    addresses: workingAddresses(descriptor.addresses, flags),
    linkX25519: descriptor.linkX25519,
    linkKem: descriptor.linkKem,
    mixKeys: descriptor.mixKeys,
  };
}

function signedMessage(body: Uint8Array): Uint8Array {
  return joinBytes(nyxLabel('descriptor'), Uint8Array.of(0), body);
}

function encodeBody(fields: DescriptorFields): Uint8Array {
  return encodeCbor({
    version: DESCRIPTOR_VERSION,
    identity: fields.identity,
    linkX25519: fields.linkX25519,
    linkKem: fields.linkKem,
    mixKeys: fields.mixKeys.map(({ epoch, x25519, kem }) => ({ epoch, x25519, kem })),
    addresses: fields.addresses.map(({ address, port }) => ({ address, port })),
    mix: fields.roles.mix,
    exit: fields.roles.exit,
    ...(fields.roles.mailbox ? { mailbox: true } : {}),
    exitPolicy: [...fields.exitPolicy],
    family: [...fields.family],
    ...(fields.families === undefined
      ? {}
      : { families: fields.families.map(({ key, certificate }) => ({ key, certificate })) }),
    compliance: fields.compliance,
    bandwidth: fields.bandwidthBytesPerSecond,
    ...(fields.nickname === undefined ? {} : { nickname: fields.nickname }),
    ...(fields.contact === undefined ? {} : { contact: fields.contact }),
    ...(fields.admission === undefined ? {} : { admission: fields.admission }),
    ...(fields.region === undefined ? {} : { region: fields.region }),
    published: fields.published,
    expires: fields.expires,
  });
}

function decodeBody(body: Uint8Array): DescriptorFields {
  const reader = new FieldReader(decodeVersioned(body), what, bodyKeys);
  const published = reader.integer('published', 0, Number.MAX_SAFE_INTEGER);
  const lifetimeEnd = Math.min(published + MAX_DESCRIPTOR_LIFETIME_SECONDS, Number.MAX_SAFE_INTEGER);
  return {
    identity: reader.bytes('identity', ED25519_PUBLIC_KEY_BYTES),
    linkX25519: reader.bytes('linkX25519', X25519_BYTES),
    linkKem: reader.bytes('linkKem', MLKEM768_PUBLIC_KEY_BYTES),
    mixKeys: readMixKeys(reader),
    addresses: readAddresses(reader),
    roles: readRoles(reader),
    exitPolicy: readPolicy(reader),
    family: readFamily(reader),
    ...(reader.has('families') ? { families: readFamilies(reader) } : {}),
    compliance: readCompliance(reader),
    bandwidthBytesPerSecond: reader.integer('bandwidth', 0, 2 ** 48),
    ...(reader.has('nickname')
      ? { nickname: reader.text('nickname', nicknamePattern, '1 to 32 of A-Z a-z 0-9 . _ -') }
      : {}),
    ...(reader.has('contact')
      ? { contact: reader.text('contact', contactPattern, '1 to 256 printable ASCII characters') }
      : {}),
    ...(reader.has('region') ? { region: reader.text('region', regionPattern, 'two capital letters') } : {}),
    ...(reader.has('admission') ? { admission: reader.bytes('admission', ADMISSION_BYTES) } : {}),
    published,
    expires: reader.integer('expires', published + 1, lifetimeEnd),
  };
}

/** The version is looked at before anything else, because another version may have other fields. */
function decodeVersioned(body: Uint8Array): unknown {
  const value = decodeCbor(body, what);
  if (typeof value !== 'object' || value === null || !('version' in value)) {
    throw new DirectoryError(DirectoryErrorCode.malformed, `${what} has no version`);
  }
  if (value.version !== DESCRIPTOR_VERSION) {
    throw new DirectoryError(
      DirectoryErrorCode.unsupportedVersion,
      `${what} has version ${showValue(value.version)}; this node reads version ${DESCRIPTOR_VERSION}`,
    );
  }
  return value;
}

/** `mailbox` is there where it is true, so that what says nothing of it has one form. */
function readRoles(reader: FieldReader): DescriptorFields['roles'] {
  const roles = { mix: reader.boolean('mix'), exit: reader.boolean('exit') };
  if (!reader.has('mailbox')) return roles;
  if (!reader.boolean('mailbox')) throw reader.bad('mailbox', 'must be true where it is there');
  return { ...roles, mailbox: true };
}

function readMixKeys(reader: FieldReader): MixPublicKeys[] {
  let lastEpoch = -1;
  return reader.array('mixKeys', 1, MAX_MIX_KEYS).map((item, i) => {
    const key = new FieldReader(item, `${what} mixKeys[${i}]`, ['epoch', 'x25519', 'kem']);
    const epoch = key.integer('epoch', 0, 2 ** 48);
    if (epoch <= lastEpoch) throw key.bad('epoch', `must be above ${lastEpoch}: epochs ascend`);
    lastEpoch = epoch;
    return { epoch, x25519: key.bytes('x25519', X25519_BYTES), kem: key.bytes('kem', MLKEM768_PUBLIC_KEY_BYTES) };
  });
}

function readAddresses(reader: FieldReader): PeerAddress[] {
  const seen = new Set<string>();
  return reader.array('addresses', 1, MAX_ADDRESSES).map((item, i) => {
    const entry = new FieldReader(item, `${what} addresses[${i}]`, ['address', 'port']);
    const address = entry.text('address', /^[0-9a-f.:]{2,45}$/, 'a literal IP address');
    if (!isCanonicalAddress(address)) {
      throw entry.bad('address', `must be a literal IP address in canonical form, is ${JSON.stringify(address)}`);
    }
    // It would be of a subnet and a family of addresses that it does not lead to.
    if (isMappedAddress(address)) throw entry.bad('address', 'must not be IPv4 written as IPv6');
    const port = entry.integer('port', 1, 65535);
    const key = `${address} ${port}`;
    if (seen.has(key)) throw entry.bad('address', 'must not be there twice with one port');
    seen.add(key);
    return { address, port };
  });
}

function readPolicy(reader: FieldReader): string[] {
  const rules = readStrings(reader, 'exitPolicy', MAX_POLICY_RULES, /^[\x20-\x7e]*$/, 'a rule');
  parseExitPolicy(rules);
  return rules;
}

function readFamily(reader: FieldReader): string[] {
  const families = readStrings(reader, 'family', MAX_FAMILIES, familyPattern, '1 to 64 printable characters');
  if (new Set(families).size !== families.length) throw reader.bad('family', 'must not name a family twice');
  return families;
}

function readFamilies(reader: FieldReader): FamilyProof[] {
  const families = reader.array('families', 1, MAX_PROVED_FAMILIES).map((item, i) => {
    const entry = new FieldReader(item, `${what} families[${i}]`, ['key', 'certificate']);
    return {
      key: entry.bytes('key', ED25519_PUBLIC_KEY_BYTES),
      certificate: entry.bytes('certificate', ED25519_SIGNATURE_BYTES),
    };
  });
  if (new Set(families.map(({ key }) => nodeIdHex(key))).size !== families.length) {
    throw reader.bad('families', 'must not name a family twice');
  }
  return families;
}

function readStrings(reader: FieldReader, key: string, max: number, pattern: RegExp, meaning: string): string[] {
  return reader.array(key, 0, max).map((item) => {
    if (typeof item !== 'string' || !pattern.test(item)) throw reader.bad(key, `must hold only ${meaning}`);
    return item;
  });
}

function readCompliance(reader: FieldReader): ComplianceLevel {
  return reader.text('compliance', /^(core|plus|full)$/, 'core, plus or full') as ComplianceLevel;
}
