/** Which level of the protocol (docs/formal.md, Conformance) a node's descriptor claims. */
import { ComplianceLevel } from '@nyx/core/directory/descriptor.ts';
import type { Config } from '../config/schema.ts';

/**
 * The highest level whose rules a node with this configuration keeps in the roles that it has. Several circuits under one
 * session, error correction and the message lane are always there; class cmix can be switched off.
 */
export const complianceOf = ({ cmix }: { readonly cmix: Pick<Config['cmix'], 'enabled'> }): ComplianceLevel =>
  cmix.enabled ? ComplianceLevel.full : ComplianceLevel.plus;
