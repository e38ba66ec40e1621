/**
 * What a peer says about itself on /nyx/bind/1: which node it is (signed by the node's identity key), and, if it is one,
 * which authority (signed by the authority's key). Both name the libp2p peer id, which the noise handshake has proved,
 * so a statement that is repeated by another peer says nothing.
 *
 *   message = (tag (1) ‖ length (2) ‖ statement)*        at most one of each tag, at most 2 of them
 */
import type { CryptoSuite, SignKeyPair } from '@nyx/core/crypto/suite.ts';
import type { FieldReader } from '@nyx/core/directory/strict-cbor.ts';
import { Refusal, RefusedError } from './contract.ts';
import { isMultiaddr } from './multiaddr-text.ts';
import { type Dated, openRecord, type RecordKind, signRecord } from './signed-record.ts';

/** A node's identity key says: the peer with this id is me. */
export interface NodeBinding extends Dated {
  readonly peerId: string;
}

/** An authority's key says: I take descriptors at this peer. Also the DHT record /nyx/authority/KEY. */
export interface AuthorityRecord extends Dated {
  readonly peerId: string;
  /** 0 to 8 multiaddrs. */
  readonly addresses: readonly string[];
}

const DAY_SECONDS = 86_400;
const MAX_ADDRESSES = 8;
const peerIdPattern = /^[1-9A-HJ-NP-Za-km-z]{40,64}$/;
const readPeerId = (reader: FieldReader): string => reader.text('peer', peerIdPattern, 'a libp2p peer id in base58');

export const nodeBindingKind: RecordKind<NodeBinding> = {
  label: 'peer binding',
  maxBytes: 512,
  maxLifetimeSeconds: DAY_SECONDS,
  fields: ['peer'],
  read: (reader, dated) => ({ ...dated, peerId: readPeerId(reader) }),
  write: ({ peerId }) => ({ peer: peerId }),
};

export const authorityRecordKind: RecordKind<AuthorityRecord> = {
  label: 'authority record',
  maxBytes: 2048,
  maxLifetimeSeconds: DAY_SECONDS,
  fields: ['peer', 'addresses'],
  read: (reader, dated) => ({
    ...dated,
    peerId: readPeerId(reader),
    addresses: reader.array('addresses', 0, MAX_ADDRESSES).map((item) => {
      if (typeof item !== 'string' || !isMultiaddr(item)) throw reader.bad('addresses', 'must hold only multiaddrs');
      return item;
    }),
  }),
  write: ({ peerId, addresses }) => ({ peer: peerId, addresses: addresses.slice(0, MAX_ADDRESSES) }),
};

const Tag = { node: 1, authority: 2 } as const;
export const MAX_BIND_BYTES = 2 * 3 + nodeBindingKind.maxBytes + authorityRecordKind.maxBytes;

export interface Statements {
  readonly node?: NodeBinding;
  readonly authority?: { readonly record: AuthorityRecord; readonly bytes: Uint8Array };
}

export interface StatementKeys {
  readonly identity: SignKeyPair | undefined;
  readonly authority: SignKeyPair | undefined;
}

export const signAuthorityRecord = (
  key: SignKeyPair,
  peerId: string,
  addresses: readonly string[],
  nowUnixSeconds: number,
): Uint8Array =>
  signRecord(
    authorityRecordKind,
    { key: key.publicKey, peerId, addresses, published: nowUnixSeconds, expires: nowUnixSeconds + DAY_SECONDS },
    key,
  );

/** All that this peer has to say; empty for a client. */
export const encodeStatements = (
  keys: StatementKeys,
  peerId: string,
  addresses: readonly string[],
  nowUnixSeconds: number,
): Uint8Array => {
  const parts: Buffer[] = [];
  const add = (tag: number, statement: Uint8Array) => {
    const head = Buffer.alloc(3);
    head[0] = tag;
    head.writeUInt16BE(statement.length, 1);
    parts.push(head, Buffer.from(statement));
  };
  if (keys.identity !== undefined) {
    const dated = { key: keys.identity.publicKey, published: nowUnixSeconds, expires: nowUnixSeconds + DAY_SECONDS };
    add(Tag.node, signRecord(nodeBindingKind, { ...dated, peerId }, keys.identity));
  }
  if (keys.authority !== undefined) {
    add(Tag.authority, signAuthorityRecord(keys.authority, peerId, addresses, nowUnixSeconds));
  }
  return new Uint8Array(Buffer.concat(parts));
};

/** Statements of the peer with the id `peerId`. Throws RefusedError; `misplaced` when they are of another peer. */
export const openStatements = (
  bytes: Uint8Array,
  peerId: string,
  suite: CryptoSuite,
  nowUnixSeconds: number,
): Statements => {
  let node: Statements['node'];
  let authority: Statements['authority'];
  for (let at = 0; at < bytes.length; ) {
    if (at + 3 > bytes.length) throw new RefusedError(Refusal.malformed, 'statements end in a head');
    const tag = bytes[at]!;
    const length = bytes[at + 1]! * 256 + bytes[at + 2]!;
    const statement = bytes.slice(at + 3, at + 3 + length);
    if (statement.length < length) throw new RefusedError(Refusal.malformed, 'a statement ends too early');
    at += 3 + length;
    if (tag === Tag.node && node === undefined) {
      node = openRecord(nodeBindingKind, statement, suite, nowUnixSeconds);
    } else if (tag === Tag.authority && authority === undefined) {
      const record = openRecord(authorityRecordKind, statement, suite, nowUnixSeconds);
      authority = { record, bytes: statement };
    } else {
      throw new RefusedError(Refusal.malformed, `statement with tag ${tag} is unknown or there twice`);
    }
  }
  for (const said of [node, authority?.record]) {
    if (said !== undefined && said.peerId !== peerId) {
      throw new RefusedError(Refusal.misplaced, `a statement about ${said.peerId} came from ${peerId}`);
    }
  }
  return { ...(node === undefined ? {} : { node }), ...(authority === undefined ? {} : { authority }) };
};
