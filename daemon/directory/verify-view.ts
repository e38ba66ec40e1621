/** Verifies a view without keeping the main thread from other work; in a large network with a thread for the signatures. */
import {
  type VerifiedView,
  type VerifyViewOptions,
  type ViewBundle,
  verifyViewSteps,
} from '@nyx/core/directory/view.ts';
import { SignatureChecker } from './signature-checker.ts';
import { runInSlices } from './slices.ts';

/** A thread takes a tenth of a second to begin. */
const MIN_NODES_FOR_THREAD = 1500;

/** As verifyViewBundle: rejects with DirectoryError. */
export const verifyView = async (bundle: ViewBundle, options: VerifyViewOptions): Promise<VerifiedView> => {
  if (bundle.entries.length < MIN_NODES_FOR_THREAD) return await runInSlices(verifyViewSteps(bundle, options));
  const checker = new SignatureChecker(options.suite);
  try {
    const signatures = (descriptor: Parameters<SignatureChecker['add']>[0]) => checker.add(descriptor);
    const steps = verifyViewSteps(bundle, { ...options, signatures });
    const verified = await runInSlices(steps, undefined, () => checker.ready());
    await checker.finish();
    return verified;
  } finally {
    await checker.close();
  }
};
