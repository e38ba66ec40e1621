/** Figures of others, for comparison: what was published, in which setting, and how it was read. Nothing here is measured by us. */
import { poissonMixBits } from '@nyx/core/mix/anonymity.ts';

export interface Published {
  readonly system: string;
  readonly figure: string;
  readonly setting: string;
  readonly source: string;
  /** `text`: in the paper's own words; `abstract`: in its abstract; `summary`: in a detailed summary by others, not checked against the paper. */
  readonly read: 'text' | 'abstract' | 'summary';
}

export const published: readonly Published[] = [
  {
    system: 'Loopix, one mix',
    figure:
      'entropy per message up to about 16 bits, rising with the rate and the delay (Figure 4, a plot without a table: its axis goes from 0 to 16)',
    setting:
      'simulation of one Poisson mix, 100…500 messages/s, delay parameter μ 200, 20, 2, 0.2 and 0.02 per second (means of 5 ms…50 s), averages over 50 runs; without mix loops',
    source: 'Piotrowska et al., The Loopix Anonymity System, USENIX Security 2017, §4.1.3 (arXiv 1703.00536)',
    read: 'text',
  },
  {
    system: 'Loopix, end to end',
    figure: '“λ/µ ≥ 2” and three or more layers are what the authors call a good choice (Figures 5 and 6)',
    setting:
      'likelihood ratio of two senders among 100, λ = 2, three layers of three mixes, the observer is told which messages are payload',
    source: 'the same, §4.3',
    read: 'text',
  },
  {
    system: 'exponential mix',
    figure: 'sender anonymity of one message log(e·λ/μ)',
    setting: 'Poisson arrivals at rate λ, mean delay 1/μ; many messages',
    source: 'Danezis, The Traffic Analysis of Continuous-Time Mixes, PET 2004, equation 13',
    read: 'text',
  },
  {
    system: 'mix network for streams',
    figure:
      'streams can be traced by the convolution of their pattern with the delay law; the author is “very sceptical” of real-time systems without much cover or delay',
    setting: '500 streams of 400 packets, paths of four of 50 mixes, mean delay of 10 ticks in 10 000',
    source: 'the same, §3',
    read: 'text',
  },
  {
    system: 'Tor, DeepCorr',
    figure: '96 % accuracy of flow correlation, against 4 % for RAPTOR’s statistic in the same setting',
    setting: 'flows of the live network, about 900 packets (some 900 kB) of each',
    source: 'Nasr, Bahramali, Houmansadr, DeepCorr, CCS 2018',
    read: 'abstract',
  },
  {
    system: 'Tor, RAPTOR',
    figure: '95 % accuracy on average, no false positives, 4 to 6 % false negatives',
    setting:
      'live network, 50 clients and 50 servers, a transfer of 100 MB each, 300 s of TCP headers at both ends, Spearman’s correlation',
    source: 'Sun et al., RAPTOR: Routing Attacks on Privacy in Tor, USENIX Security 2015',
    read: 'summary',
  },
  {
    system: 'Tor, DeepCoFFEA',
    figure: '93 % true positives where the best attack before had at most 13 %, both tuned for high precision',
    setting: 'flows of the live network; learned embeddings, voting over windows',
    source: 'Oh et al., DeepCoFFEA, IEEE S&P 2022',
    read: 'summary',
  },
];

/** What our formula gives in the settings of Loopix’s Figure 4, to be held against its axis. */
export function loopixFigure4(): { readonly mu: number; readonly bits: readonly (readonly [number, number])[] }[] {
  return [200, 20, 2, 0.2, 0.02].map((mu) => ({
    mu,
    bits: [100, 200, 300, 400, 500].map((rate) => [rate, poissonMixBits(rate / mu)] as const),
  }));
}
