/** What a scenario is given. It returns what goes to its JSON file. */
export interface ScenarioContext {
  readonly seed: number;
  /** Only the parts whose name has one of these texts; all of them when there is none. */
  readonly only: readonly string[];
  /** How often what varies from run to run is measured; the median counts. */
  readonly runs: number;
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
  /** Something did not come out as it must; the scenario may go on. */
  readonly fail: (why: string) => void;
}

export type Scenario = (context: ScenarioContext) => Promise<unknown>;

export function isChosen(only: readonly string[], name: string): boolean {
  return only.length === 0 || only.some((text) => name.includes(text));
}
