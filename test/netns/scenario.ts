/** What a scenario is given. It returns what goes to its JSON file. */
export interface ScenarioContext {
  readonly seed: number;
  /** Only the parts whose name has this text. */
  readonly only: string | undefined;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
  /** Something did not come out as it must; the scenario may go on. */
  readonly fail: (why: string) => void;
}

export type Scenario = (context: ScenarioContext) => Promise<unknown>;
