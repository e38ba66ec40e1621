/** Certificate authorities and certificates for tests, made on the spot. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;

cryptoProvider.set(webcrypto as Crypto);

export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface Authority {
  readonly caFile: string;
  readonly certificate: X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
}

let serial = 0;
const nextSerial = () => (++serial).toString(16).padStart(8, '0');

const generateKeys = async (): Promise<webcrypto.CryptoKeyPair> =>
  await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);

/** Its certificate is in `path`. */
export async function makeAuthority(name: string, path: string): Promise<Authority> {
  const keys = await generateKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: nextSerial(),
    name: `CN=${name}`,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + DAY_MS),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 1, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ],
  });
  writeFileSync(path, certificate.toString('pem'));
  return { caFile: path, certificate, keys };
}

/** For `use`, written to `${path}.pem` and `${path}.key`. `expired`: until yesterday. */
export async function issue(
  authority: Authority,
  use: 'server' | 'client',
  path: string,
  { expired = false } = {},
): Promise<CertificateFiles> {
  const keys = await generateKeys();
  const certificate = await X509CertificateGenerator.create({
    serialNumber: nextSerial(),
    subject: `CN=${use}`,
    issuer: authority.certificate.subject,
    notBefore: new Date(Date.now() - 2 * DAY_MS),
    notAfter: new Date(Date.now() + (expired ? -DAY_MS : DAY_MS)),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: authority.keys.privateKey,
    extensions: [
      new ExtendedKeyUsageExtension([use === 'server' ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth]),
      ...(use === 'server'
        ? [
            new SubjectAlternativeNameExtension([
              { type: 'dns', value: 'localhost' },
              { type: 'ip', value: '127.0.0.1' },
            ]),
          ]
        : []),
    ],
  });
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const lines = der.toString('base64').replaceAll(/.{64}/g, '$&\n');
  writeFileSync(`${path}.pem`, certificate.toString('pem'));
  writeFileSync(`${path}.key`, `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`, { mode: 0o600 });
  return { certFile: `${path}.pem`, keyFile: `${path}.key` };
}
