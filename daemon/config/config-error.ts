/** What is wrong with a configuration. Apart from load.ts, which costs memory to load. */

export interface ConfigIssue {
  readonly line: number;
  readonly column: number;
  /** Key path, e.g. `exit.policy[0]`; empty for the file as a whole. */
  readonly path: string;
  readonly message: string;
}

/** All problems of one configuration, as they stand in it; the message has one line for each. */
export class ConfigError extends Error {
  readonly issues: readonly ConfigIssue[];
  constructor(name: string, given: readonly ConfigIssue[]) {
    const issues = given.toSorted((a, b) => a.line - b.line || a.column - b.column);
    super(
      issues
        .map(
          (issue) =>
            `${name}:${issue.line}:${issue.column}: ${issue.path === '' ? '' : `${issue.path} `}${issue.message}`,
        )
        .join('\n'),
    );
    this.name = 'ConfigError';
    this.issues = issues;
  }
}
