/**
 * What is checked: each module of spec/ with the constants it is checked for, its properties, and for each property a
 * mutant: the module with one fault put in by a textual patch, for which TLC must find that property violated.
 */

export interface Instance {
  readonly constants: Readonly<Record<string, string>>;
  /** Only with --deep. */
  readonly deep?: true;
  /** Actions that these constants leave no room for. */
  readonly idle?: readonly string[];
}

export interface Mutant {
  /** The property that has to fail. */
  readonly kills: string;
  readonly fault: string;
  /** Occurs once in the module. */
  readonly find: string;
  readonly put: string;
  /** Where it takes several patches: properties that more than one check upholds. */
  readonly also?: readonly { readonly find: string; readonly put: string }[];
  /** Which instance to check it with; default the first. */
  readonly instance?: number;
  /** Constants that differ from the instance's. */
  readonly constants?: Readonly<Record<string, string>>;
}

export interface Model {
  readonly module: string;
  /** `built`: describes code that is there. `design`: describes what is to be built. */
  readonly level: 'built' | 'design';
  readonly about: string;
  readonly instances: readonly Instance[];
  readonly invariants: readonly string[];
  readonly temporal: readonly string[];
  readonly mutants: readonly Mutant[];
  /** Properties that one would want and that do not hold: the module has to show each violated, as the docs say. */
  readonly gaps?: readonly Gap[];
}

export interface Gap {
  readonly property: string;
  /** What happens unseen. */
  readonly about: string;
  readonly instance?: number;
  readonly constants?: Readonly<Record<string, string>>;
}

const set = (...items: readonly (string | number)[]): string =>
  `{${items.map((item) => (typeof item === 'number' ? item : `"${item}"`)).join(', ')}}`;

const handshake: Model = {
  module: 'Handshake',
  level: 'built',
  about: 'link handshake: cookie, replay, forged and altered inits, crash of the responder',
  instances: [
    { constants: { Tries: set(1), Forged: set(3), FarFuture: '9', MaxUnproved: '1', MaxCrashes: '1' } },
    {
      constants: { Tries: set(1, 2), Forged: set(), FarFuture: '9', MaxUnproved: '1', MaxCrashes: '0' },
      deep: true,
      idle: ['Forge', 'Crash'],
    },
    {
      constants: { Tries: set(1, 2), Forged: set(3), FarFuture: '9', MaxUnproved: '2', MaxCrashes: '0' },
      idle: ['Crash'],
      deep: true,
    },
  ],
  invariants: [
    'TypeOK',
    'KeysUnique',
    'UpMeansAuthentic',
    'UpOnce',
    'NoDowngrade',
    'CookieBeforeWork',
    'StampsAreProved',
    'UnprovedBounded',
  ],
  temporal: ['EverySetUpEnds', 'UnprovedEnds'],
  mutants: [
    {
      kills: 'KeysUnique',
      fault: 'the responder uses one ephemeral key for every response; it crashes and an init is replayed',
      find: "/\\ fresh' = fresh + 1",
      put: "/\\ fresh' = fresh",
    },
    {
      kills: 'UpMeansAuthentic',
      fault: 'a link counts as up before the initiator has proved that it holds the keys',
      find: '/\\ Cell(l.e, l.k) \\in wire\n',
      put: '',
    },
    {
      kills: 'UpOnce',
      fault:
        'neither inits nor timestamps are remembered, and a first cell proves any link of its initiator, whatever keys it is under',
      find: '/\\ Cell(l.e, l.k) \\in wire\n',
      put: '/\\ \\E m \\in wire : m.t = "cell" /\\ m.e = l.e\n',
      also: [
        { find: '    /\\ m.e \\notin seen\n', put: '' },
        { find: 'IF m.mode = "hybrid" /\\ Stamp(m.e) \\notin stamps', put: 'IF m.mode = "hybrid"' },
      ],
    },
    {
      kills: 'NoDowngrade',
      fault: 'what an init asks for is not covered by its tag',
      find: 'IF m.mode = "hybrid" /\\ Stamp(m.e)',
      put: 'IF Stamp(m.e)',
    },
    {
      kills: 'CookieBeforeWork',
      fault: 'inits are worked on under load without a cookie',
      find: '    /\\ load => m.cookie\n',
      put: '',
    },
    {
      kills: 'StampsAreProved',
      fault: 'a timestamp is remembered when the init comes, not when its sender has proved itself',
      find: '    /\\ UNCHANGED <<initiator, key, load, stamps, crashes>>',
      put: "    /\\ stamps' = stamps \\cup {Stamp(m.e)}\n    /\\ UNCHANGED <<initiator, key, load, crashes>>",
    },
    {
      kills: 'UnprovedBounded',
      fault: 'links that have not been proved are not counted',
      find: '    /\\ Cardinality(Unproved) < MaxUnproved\n',
      put: '',
    },
    {
      kills: 'EverySetUpEnds',
      fault: 'an initiator that nobody answers never gives up',
      find: '(\\A e \\in Tries : WF_vars(GiveUp(e))) /\\ WF_vars(Expire)',
      put: 'WF_vars(Expire)',
    },
    {
      kills: 'UnprovedEnds',
      fault: 'a link that is never proved is kept for ever',
      find: '(\\A e \\in Tries : WF_vars(GiveUp(e))) /\\ WF_vars(Expire)',
      put: '(\\A e \\in Tries : WF_vars(GiveUp(e)))',
    },
  ],
};

const rekey: Model = {
  module: 'Rekey',
  level: 'built',
  about: 'rekey and control channel of a link: loss, replay and reordering across generations',
  instances: [
    { constants: { MaxGeneration: '1', MaxCells: '2', MaxSlots: '4' } },
    { constants: { MaxGeneration: '3', MaxCells: '1', MaxSlots: '3' } },
    { constants: { MaxGeneration: '2', MaxCells: '2', MaxSlots: '4' }, deep: true },
  ],
  invariants: ['TypeOK', 'NoncesUnique', 'OpenedOnce', 'AlwaysOpenable', 'SwitchIsProved', 'SlotsBounded'],
  temporal: ['RekeyEnds'],
  mutants: [
    {
      kills: 'NoncesUnique',
      fault: "the initiator's counter starts anew when it asks for a rekey, under the keys it still uses",
      find: '  /\\ rekeying\' = send["i"] + 1\n  /\\ UNCHANGED <<cells, send, receive, counter, opened',
      put: '  /\\ rekeying\' = send["i"] + 1\n  /\\ counter\' = [counter EXCEPT !["i"] = 0]\n  /\\ UNCHANGED <<cells, send, receive, opened',
    },
    {
      kills: 'OpenedOnce',
      fault: 'the responder does not look into its replay window',
      find: '  /\\ <<c.g, c.n>> \\notin opened["r"]\n',
      put: '',
    },
    {
      kills: 'AlwaysOpenable',
      fault: 'the initiator drops the old receive keys as soon as it has the response',
      find: '  /\\ alive /\\ g \\in Old("i") /\\ heard\n  /\\ g \\notin Old("r")\n',
      put: '  /\\ alive /\\ g \\in Old("i")\n',
    },
    {
      kills: 'SwitchIsProved',
      fault: 'the responder switches when it answers, before the initiator can have the answer',
      find: '  /\\ send\' = [send EXCEPT !["r"] = sending]\n',
      put: '  /\\ send\' = [send EXCEPT !["r"] = IF asks THEN c.to ELSE sending]\n',
    },
    {
      kills: 'SlotsBounded',
      fault: 'a rekey begins although the keys of the last ones are still held',
      find: '  /\\ Cardinality(Old("i")) < MaxSlots - 2\n',
      put: '',
      instance: 1,
    },
    {
      kills: 'RekeyEnds',
      fault: 'a link whose rekey is never answered is kept',
      find: 'Fairness == WF_vars(GiveUp)',
      put: 'Fairness == TRUE',
    },
  ],
};

const train: Model = {
  module: 'Train',
  level: 'built',
  about: 'set-up trains against replay: epochs, several workers, crashes of workers and of the process',
  instances: [
    { constants: { Trains: set(1, 2), Workers: set('w0', 'w1'), MaxEpoch: '3', MaxCrashes: '2' } },
    { constants: { Trains: set(1, 2, 3), Workers: set('w0', 'w1', 'w2'), MaxEpoch: '4', MaxCrashes: '3' }, deep: true },
  ],
  invariants: ['TypeOK', 'ChainsUnique', 'OldEpochsErased'],
  temporal: ['WorkersComeBack'],
  mutants: [
    {
      kills: 'ChainsUnique',
      fault: 'what was remembered is lost with the process while its keys come back (as the code once was)',
      find: "  /\\ memory' = memory \\cup kept\n",
      put: "  /\\ memory' = memory\n",
    },
    {
      kills: 'ChainsUnique',
      fault: 'each worker remembers for itself (as the code once was)',
      find: '  /\\ <<madeFor[t], t>> \\notin memory\n',
      put: '  /\\ ~\\E c \\in circuits : c.train = t /\\ c.worker = w\n',
    },
    {
      kills: 'ChainsUnique',
      fault: "a train's memory is dropped an epoch before its key",
      find: "  /\\ memory' = {m \\in memory : m[1] \\in held'}\n",
      put: "  /\\ memory' = {m \\in memory : m[1] = epoch + 1}\n",
    },
    {
      kills: 'OldEpochsErased',
      fault: 'keys of past epochs are kept',
      find: "  /\\ held' = {e \\in 1..MaxEpoch : e \\in {epoch, epoch + 1}}\n",
      put: "  /\\ held' = held \\cup {epoch + 1}\n",
    },
    {
      kills: 'WorkersComeBack',
      fault: 'a worker that crashed is not started again',
      find: ' /\\ \\A w \\in Workers : WF_vars(Start(w))',
      put: '',
    },
  ],
};

const circuit: Model = {
  module: 'Circuit',
  level: 'built',
  about: 'a circuit: set-up train, data right behind it, fresh keys, refusal, teardown, lost links, corrupt relay',
  instances: [
    { constants: { MaxCells: '1', MaxHeld: '1' } },
    { constants: { MaxCells: '2', MaxHeld: '1' }, deep: true },
    { constants: { MaxCells: '2', MaxHeld: '2' }, deep: true },
  ],
  invariants: [
    'TypeOK',
    'DeliveredOnce',
    'NothingAlteredIsDelivered',
    'NoRecursion',
    'TrainBeforeData',
    'HoldingBounded',
    'EndedHoldsNothing',
    'ChainsAgree',
    'EndIsTold',
  ],
  temporal: ['EverySetUpEnds', 'NoCircuitIsLeft'],
  mutants: [
    {
      kills: 'DeliveredOnce',
      fault: 'the last hop does not look into its replay window',
      find: '/\\ exit = "open" /\\ c \\in cells2 /\\ c.n \\notin seenE',
      put: '/\\ exit = "open" /\\ c \\in cells2',
    },
    {
      kills: 'NothingAlteredIsDelivered',
      fault: 'the last hop does not check the tag',
      find: '  /\\ c.ok /\\ c.ch \\in fwdE\n',
      put: '  /\\ c.ch \\in fwdE\n',
    },
    {
      kills: 'NoRecursion',
      fault: 'the relay goes wherever the train says, itself and its predecessor included',
      find: 'IF next = "exit" /\\ link2 # "dead"\n     THEN /\\ relay',
      put: 'IF link2 # "dead"\n     THEN /\\ relay',
    },
    {
      kills: 'TrainBeforeData',
      fault: 'cells are passed on before the next link is up, hence before the train',
      find: '  /\\ IF link2 = "up"\n     THEN /\\ cells2',
      put: '  /\\ IF link2 # "dead"\n     THEN /\\ cells2',
    },
    {
      kills: 'HoldingBounded',
      fault: 'cells that wait for a link are not counted',
      find: '     ELSE /\\ Cardinality(held) < MaxHeld\n          /\\ held',
      put: '     ELSE /\\ held',
      instance: 1,
    },
    {
      kills: 'EndedHoldsNothing',
      fault: 'cells that wait are kept when the circuit ends',
      find: '  /\\ relay\' = "ended" /\\ held\' = {}\n',
      put: '  /\\ relay\' = "ended" /\\ held\' = held\n',
    },
    {
      kills: 'ChainsAgree',
      fault: 'the client forgets the old chain when it has the reply, while the last hop still sends under it',
      find: 'client\' = "ready" /\\ fwdC\' = "new" /\\ backC\' = {"old", "new"}',
      put: 'client\' = "ready" /\\ fwdC\' = "new" /\\ backC\' = {"new"}',
    },
    {
      kills: 'EndIsTold',
      fault: "the client's user is not told of a refusal",
      find: '  /\\ told\' = (told \\/ client \\in {"building", "ready"})\n  /\\ UNCHANGED <<relay, exit, next, links, toRelay, toExit',
      put: "  /\\ told' = told\n  /\\ UNCHANGED <<relay, exit, next, links, toRelay, toExit",
    },
    {
      kills: 'EverySetUpEnds',
      fault: 'a set-up that nobody answers has no time-out',
      find: 'WF_vars(SetupTimeout) /\\ WF_vars(ClientTakesMessage)',
      put: 'WF_vars(ClientTakesMessage)',
    },
    {
      kills: 'NoCircuitIsLeft',
      fault: 'the relay does not tell the last hop that the circuit has ended',
      find: '  /\\ toExit\' = IF relay = "open" THEN Append(toExit, "DESTROY") ELSE toExit\n',
      put: "  /\\ toExit' = toExit\n",
    },
  ],
};

const stream: Model = {
  module: 'Stream',
  level: 'built',
  about: 'one direction of a stream: loss and repetition, flow control, FIN, RESET, end of the session',
  instances: [
    { constants: { Size: '2', Window: '1', MaxLosses: '1' } },
    { constants: { Size: '3', Window: '2', MaxLosses: '2' }, deep: true },
  ],
  invariants: [
    'TypeOK',
    'WindowBounded',
    'LimitRespected',
    'InOrderOnce',
    'FinalSizeStable',
    'NothingUnwritten',
    'EndIsTold',
    'ClosedIsOver',
  ],
  temporal: ['WrittenIsDelivered', 'FinishIsSeen', 'AbandonIsSeen'],
  mutants: [
    {
      kills: 'WindowBounded',
      fault: 'the receiver grants a window more than it has room for',
      find: "  /\\ granted' = read + Window\n",
      put: "  /\\ granted' = granted + Window + 1\n",
    },
    {
      kills: 'LimitRespected',
      fault: 'the sender looks at the limit only after it has sent',
      find: 'next < written /\\ next < limit',
      put: 'next < written /\\ next <= limit',
    },
    {
      kills: 'InOrderOnce',
      fault: 'read() does not wait for a gap to be filled',
      find: '/\\ ~ended /\\ ~gone /\\ read \\in arrived',
      put: '/\\ ~ended /\\ ~gone /\\ arrived # {}',
    },
    {
      kills: 'FinalSizeStable',
      fault: 'a RESET gives what was written as final size, though less was sent, behind a FIN that was sent before',
      find: '  /\\ Put("reset", next)\n',
      put: '  /\\ Put("reset", next + 1)\n',
    },
    {
      kills: 'NothingUnwritten',
      fault: 'a byte more than was written is sent',
      find: 'next < written /\\ next < limit',
      put: 'next <= written /\\ next < limit /\\ next < Size',
    },
    {
      kills: 'EndIsTold',
      fault: 'who opened a stream is not told that the session has ended',
      find: "  /\\ ended' = TRUE /\\ net' = {}\n  /\\ owner' = \"closed\"\n",
      put: "  /\\ ended' = TRUE /\\ net' = {}\n  /\\ owner' = owner\n",
    },
    {
      kills: 'ClosedIsOver',
      fault: 'a stream counts as closed when its FIN has been acknowledged, though bytes are missing',
      find: 'fin = "acked" /\\ acked = 0..(written - 1)\n  /\\ owner',
      put: 'fin = "acked"\n  /\\ owner',
    },
    {
      kills: 'WrittenIsDelivered',
      fault: 'a limit whose frame was lost is not sent again',
      find: '  /\\ grant\' = IF p.k = "limit" /\\ p.v = granted /\\ final = Unknown THEN "pending" ELSE grant\n',
      put: "  /\\ grant' = grant\n",
    },
    {
      kills: 'FinishIsSeen',
      fault: 'a FIN that was lost is not sent again',
      find: '  /\\ fin\' = IF p.k = "fin" /\\ reset = "no" THEN "pending" ELSE fin\n',
      put: "  /\\ fin' = fin\n",
    },
    {
      kills: 'AbandonIsSeen',
      fault: 'a RESET that was lost is not sent again',
      find: '  /\\ reset\' = IF p.k = "reset" THEN "pending" ELSE reset\n',
      put: "  /\\ reset' = reset\n",
    },
  ],
};

const view: Model = {
  module: 'View',
  level: 'built',
  about: 'epoch view: authorities that sign once, corrupt ones that sign anything, readers, crashes of both',
  instances: [
    {
      constants: {
        Honest: set('h1', 'h2', 'h3'),
        Corrupt: set('c'),
        Threshold: '3',
        Readers: set('r', 's'),
        MaxEpoch: '1',
        MaxCrashes: '1',
      },
      idle: ['NextEpoch'],
    },
    {
      constants: {
        Honest: set('h1', 'h2'),
        Corrupt: set(),
        Threshold: '2',
        Readers: set('r'),
        MaxEpoch: '2',
        MaxCrashes: '1',
      },
      idle: ['SignAnything'],
    },
    {
      constants: {
        Honest: set('h1', 'h2', 'h3'),
        Corrupt: set('c'),
        Threshold: '3',
        Readers: set('r', 's'),
        MaxEpoch: '2',
        MaxCrashes: '1',
      },
      deep: true,
    },
  ],
  invariants: ['TypeOK', 'NoRollback', 'NoFork', 'HonestSigned', 'SignedOnce'],
  temporal: ['ViewArrives'],
  mutants: [
    {
      kills: 'NoRollback',
      fault: 'a reader takes the view of an earlier epoch',
      find: '  /\\ e >= last[r][1]\n',
      put: '',
      instance: 1,
    },
    {
      kills: 'NoFork',
      fault: 'one signature fewer than the threshold is enough',
      find: '  /\\ Cardinality(Signers(e, v)) >= Threshold\n',
      put: '  /\\ Cardinality(Signers(e, v)) >= Threshold - 1\n',
    },
    {
      kills: 'NoFork',
      fault: 'an authority forgets in a crash what it has signed',
      find: "  /\\ wrote' = [wrote EXCEPT ![a] = @]\n",
      put: "  /\\ wrote' = [wrote EXCEPT ![a] = {}]\n",
    },
    {
      kills: 'NoFork',
      fault: 'the threshold is no majority of what the corrupt authorities leave',
      find: 'ASSUME 2 * Threshold > Cardinality(Authorities) + Cardinality(Corrupt)',
      put: 'ASSUME TRUE',
      constants: { Threshold: '2' },
    },
    {
      kills: 'NoRollback',
      fault: 'a reader forgets in a crash which view it had',
      find: "  /\\ last' = [last EXCEPT ![r] = @]\n",
      put: '  /\\ last\' = [last EXCEPT ![r] = <<0, "none">>]\n',
      instance: 1,
    },
    {
      kills: 'HonestSigned',
      fault: 'signatures are counted without asking for the threshold',
      find: '  /\\ Cardinality(Signers(e, v)) >= Threshold\n',
      put: '  /\\ Signers(e, v) # {}\n',
    },
    {
      kills: 'SignedOnce',
      fault: 'an authority signs again when the set has changed',
      find: '  /\\ \\A w \\in wrote[a] : w[1] # epoch\n',
      put: '',
    },
    {
      kills: 'ViewArrives',
      fault: 'only the first authority signs what was proposed',
      find: '  /\\ a \\in Honest\n  /\\ \\A w',
      put: '  /\\ a \\in Honest /\\ proposal[epoch] = "none"\n  /\\ \\A w',
    },
  ],
};

const supervision = (strategy: string): Instance => ({
  constants: { N: '3', MaxRestarts: '1', Strategy: `"${strategy}"`, MaxCrashes: '3' },
});

const supervisor: Model = {
  module: 'Supervision',
  level: 'built',
  about: 'supervision tree: restart intensity, no orphan, order of shutdown, stop at any moment',
  instances: [
    supervision('one_for_one'),
    supervision('rest_for_one'),
    supervision('one_for_all'),
    { constants: { N: '4', MaxRestarts: '2', Strategy: '"rest_for_one"', MaxCrashes: '5' }, deep: true },
  ],
  invariants: ['TypeOK', 'NoOrphan', 'ReverseOrder', 'IntensityBounded', 'OrderOfStart'],
  temporal: ['StopEnds', 'CrashHeals'],
  mutants: [
    {
      kills: 'NoOrphan',
      fault: 'a child that is being started when everything stops is not waited for (as the code once was)',
      find: '  /\\ state = "stopping" /\\ living = {}\n',
      put: '  /\\ state = "stopping" /\\ \\A c \\in living : status[c] = "starting"\n',
    },
    {
      kills: 'ReverseOrder',
      fault: 'children are stopped in the order in which they were started',
      find: '  /\\ c = Max(living)\n',
      put: '  /\\ c = Min(living)\n',
    },
    {
      kills: 'IntensityBounded',
      fault: 'a start that fails again is not counted',
      find: '     THEN IF restarts < MaxRestarts\n',
      put: '     THEN IF TRUE\n',
    },
    {
      kills: 'OrderOfStart',
      fault: 'children are started all at once',
      find: '/\\ \\A d \\in Children : d < c => status[d] = "running"',
      put: '',
    },
    {
      kills: 'StopEnds',
      fault: 'a child that does not stop is not killed',
      find: ' /\\ WF_vars(StopChild(c))',
      put: '',
    },
    {
      kills: 'CrashHeals',
      fault: 'a group that was stopped for a restart is not started again',
      find: '\\A c \\in Children : WF_vars(BeginStart(c)) /\\ WF_vars(Started(c))',
      put: '\\A c \\in Children : WF_vars(Started(c))',
    },
  ],
};

const keys: Model = {
  module: 'Keys',
  level: 'built',
  about: 'epoch keys and the views that name them: rotation by time and by hand, clocks that differ',
  instances: [
    { constants: { Steps: '3', MaxEpoch: '3', MaxRotations: '1' } },
    { constants: { Steps: '5', MaxEpoch: '5', MaxRotations: '3' }, deep: true },
  ],
  invariants: ['TypeOK', 'EveryViewOpens', 'ViewNamesHeldKey', 'OldKeysGone', 'ErasedStaysErased', 'UsedIsHeld'],
  temporal: ['EveryEpochHasItsView'],
  mutants: [
    {
      kills: 'EveryViewOpens',
      fault: "the keys of the epoch before are erased to the second, while clients' clocks lag (as the code once was)",
      find: 'Lagging(t) == IF t = 0 THEN 0 ELSE (t - 1) \\div Steps',
      put: 'Lagging(t) == t \\div Steps',
    },
    {
      kills: 'ViewNamesHeldKey',
      fault: "the present epoch's keys are renewed by hand as well",
      find: 'IF k = e + 1 THEN version[k] + 1',
      put: 'IF k >= e THEN version[k] + 1',
    },
    {
      kills: 'OldKeysGone',
      fault: 'keys are kept once they were made',
      find: '(k + 1 >= Lagging(t) /\\ k < Epoch(t) /\\ version[k] # 0)',
      put: '(k < Epoch(t) /\\ version[k] # 0)',
    },
    {
      kills: 'ErasedStaysErased',
      fault: "the previous epoch's keys are made anew when they are gone",
      find: '(k + 1 >= Lagging(t) /\\ k < Epoch(t) /\\ version[k] # 0)',
      put: '(k + 1 >= Lagging(t) /\\ k < Epoch(t))',
    },
    {
      kills: 'UsedIsHeld',
      fault: 'workers keep the keys that were erased by hand',
      find: "       /\\ using' = {k \\in using : k >= e}\n",
      put: "       /\\ using' = using\n",
    },
    {
      kills: 'EveryEpochHasItsView',
      fault: 'a node that has changed its keys does not post its descriptor again',
      find: "  /\\ posted' = [k \\in Epochs |-> IF k >= Epoch(now) THEN version[k] ELSE 0]\n",
      put: "  /\\ posted' = posted\n",
    },
  ],
};

const reload: Model = {
  module: 'Reload',
  level: 'built',
  about: 'reload of the configuration: several in a row, refusals, workers that crash and start in the middle',
  instances: [
    { constants: { Workers: set(1, 2), MaxVersion: '3', Unsound: set(2), MaxCrashes: '1' } },
    { constants: { Workers: set(1, 2), MaxVersion: '4', Unsound: set(3), MaxCrashes: '3' }, deep: true },
    { constants: { Workers: set(1, 2, 3), MaxVersion: '3', Unsound: set(2), MaxCrashes: '2' }, deep: true },
  ],
  invariants: [
    'TypeOK',
    'NoMix',
    'RefusedChangesNothing',
    'RefusedIsNowhere',
    'NeverBack',
    'NobodyForgotten',
    'AskedIsRead',
  ],
  temporal: ['EveryReloadEnds', 'EveryWorkerGetsIt'],
  mutants: [
    {
      kills: 'NoMix',
      fault: 'one part of a worker takes the new configuration, the other keeps the object that it was made with',
      find: "/\\ parts' = [parts EXCEPT ![w] = <<next, next>>]",
      put: "/\\ parts' = [parts EXCEPT ![w] = <<next, @[2]>>]",
    },
    {
      kills: 'RefusedChangesNothing',
      fault:
        'the main thread goes by the new configuration as soon as it was read, and what is wrong with it is found then',
      find: "  /\\ main' = main\n",
      put: "  /\\ main' = looked\n",
    },
    {
      kills: 'RefusedIsNowhere',
      fault: 'what a part finds wrong when it is prepared does not count',
      find: '  /\\ looked \\notin Unsound\n',
      put: '',
    },
    {
      kills: 'NeverBack',
      fault: 'a worker is started with the options that the node began with',
      find: "/\\ parts' = [parts EXCEPT ![w] = <<main, main>>]",
      put: "/\\ parts' = [parts EXCEPT ![w] = <<1, 1>>]",
    },
    {
      kills: 'NobodyForgotten',
      fault: 'a worker that was starting while a reload was accepted is not told when it is up',
      find: 'IF parts[w][1] < main THEN <<main>> ELSE <<>>',
      put: '<<>>',
    },
    {
      kills: 'AskedIsRead',
      fault: 'a request that comes while a reload is under way is answered by that one',
      find: "  /\\ waiting' = TRUE\n",
      put: '  /\\ waiting\' = (phase = "idle")\n',
    },
    {
      kills: 'EveryReloadEnds',
      fault: 'a reload goes on waiting for the answer of a worker that has crashed',
      find: "  /\\ owed' = owed \\ {w}\n",
      put: "  /\\ owed' = owed\n",
    },
    {
      kills: 'EveryWorkerGetsIt',
      fault: 'what is on its way to a worker is lost when it is busy',
      find: 'WF_vars(Ready(w)) /\\ WF_vars(Take(w))',
      put: 'WF_vars(Ready(w))',
    },
  ],
};

const session: Model = {
  module: 'Session',
  level: 'built',
  about: 'a session over several circuits: attach, failover, waiting and resumption, exactly-once delivery',
  instances: [
    { constants: { Paths: set(1, 2), Size: '2' } },
    { constants: { Paths: set(1, 2, 3), Size: '2' }, deep: true },
  ],
  invariants: [
    'TypeOK',
    'ExactlyOnce',
    'OnlyMineAttached',
    'DoneMeansAll',
    'WaitsWithoutCircuit',
    'HeldIsBounded',
    'EndedHoldsNothing',
  ],
  temporal: ['ClientEnds', 'LastHopEnds'],
  mutants: [
    {
      kills: 'ExactlyOnce',
      fault: 'what comes a second time over another circuit is given again',
      find: '  /\\ f[2] \\notin got\n',
      put: '',
    },
    {
      kills: 'OnlyMineAttached',
      fault: 'a proof is good for any circuit, not only for the one that it was made over',
      find: '  /\\ b = p\n',
      put: '',
      constants: { Paths: set(1, 2, 3), Size: '1' },
    },
    {
      kills: 'DoneMeansAll',
      fault: 'the client is done when everything was sent',
      find: '/\\ client = "open" /\\ acked = Units',
      put: '/\\ client = "open" /\\ sent = Units',
    },
    {
      kills: 'WaitsWithoutCircuit',
      fault: 'a session waits as soon as one of its circuits is gone',
      find: 'Attached \\subseteq {p}',
      put: 'p \\in Attached',
    },
    {
      kills: 'HeldIsBounded',
      fault: 'a session that has lost its last circuit is kept as if nothing had been',
      find: 'THEN {"waiting", "ended"}',
      put: 'THEN {"open"}',
    },
    {
      kills: 'EndedHoldsNothing',
      fault: 'a session that has ended is attached to all the same',
      find: '  /\\ server # "ended"\n  /\\ far',
      put: '  /\\ far',
      also: [{ find: '  /\\ server\' = "open"\n', put: "  /\\ server' = server\n" }],
    },
    {
      kills: 'ClientEnds',
      fault: 'what was under way on a circuit that died is not sent again',
      find: "  /\\ flight' = flight \\cup {<<p, u>>}\n",
      put: "  /\\ flight' = flight\n",
    },
    {
      kills: 'LastHopEnds',
      fault: 'a session waits for ever',
      find: '  /\\ server = "waiting"\n  /\\ server\' = "ended"',
      put: '  /\\ server = "waiting"\n  /\\ server\' = "waiting"',
    },
  ],
};

/** Cells that are given, those that go on, those that the mix makes up, and whom it lies to. */
const batch = (
  given: readonly number[],
  onward: readonly number[],
  own: readonly number[],
  liesTo: readonly string[],
  rest: Omit<Instance, 'constants'>,
): Instance => ({
  constants: {
    Cells: set(...given),
    Onward: set(...onward),
    Own: set(...own),
    LiesTo: set(...liesTo),
    Linked: '{TRUE}',
  },
  ...rest,
});

const mixBatch: Model = {
  module: 'MixBatch',
  level: 'built',
  about: 'a batch of class cmix: what neighbours check, what a lying mix can do, and what nobody sees of it',
  instances: [
    batch([1, 2], [], [], ['u'], { idle: ['Send', 'SettleGot', 'Compare', 'Frame'] }),
    batch([1], [1], [], ['w'], { idle: ['Frame'] }),
    batch([1, 2], [1], [9], [], { idle: ['Compare', 'SettleGot', 'Frame'] }),
    batch([1], [1], [9], ['u', 'w'], { idle: ['Frame'], deep: true }),
    batch([1, 2], [1, 2], [], ['w'], { idle: ['Frame'], deep: true }),
  ],
  invariants: [
    'TypeOK',
    'HonestIsNotAccused',
    'ProvedIsInBatch',
    'ProvedIsOpened',
    'ExchangeIsShown',
    'ProvedWasDelayed',
    'BrokenReceiptIsShown',
    'TakenOnce',
    'NothingEarly',
  ],
  temporal: ['ReceiptIsKept', 'GivenIsCounted', 'TakenIsProved', 'SplitIsShown', 'HonestBatchLeaves'],
  gaps: [
    { property: 'DropIsSeen', about: 'a cell without a receipt is thrown away: it counts as lost, as if the link had' },
    {
      property: 'OpenedIsSent',
      about: 'a cell is in the batch and in its opening, and does not leave',
      instance: 1,
      constants: { Own: set(9) },
    },
    {
      property: 'AdditionIsSeen',
      about: 'the mix puts a cell of its own into the batch',
      instance: 1,
      constants: { Onward: set(), Own: set(9) },
    },
    { property: 'HasteIsSeen', about: 'cells leave before the delay is over', instance: 1 },
    {
      property: 'EverySplitIsSeen',
      about: 'neighbours without a link are told different statements',
      instance: 1,
      constants: { Linked: '{FALSE}' },
    },
  ],
  mutants: [
    {
      kills: 'HonestIsNotAccused',
      fault: 'evidence of a broken receipt may be of the proof for another neighbour',
      find: ' /\\ r.tag = p.tag /\\ ~',
      put: ' /\\ ~',
      instance: 2,
    },
    {
      kills: 'HonestIsNotAccused',
      fault: 'statements of two batches count as two of one',
      find: 'Differ(a, b) == a.number = b.number /\\ ',
      put: 'Differ(a, b) == ',
      instance: 2,
    },
    {
      kills: 'HonestIsNotAccused',
      fault: 'cells count as unproved before the proofs can be there',
      find: '  /\\ honest => "w" \\in judged\n',
      put: '',
      instance: 2,
    },
    {
      kills: 'ProvedIsInBatch',
      fault: 'nobody checks that what is proved is in the accumulator',
      find: 'THEN {"membership"}',
      put: 'THEN {}',
    },
    {
      kills: 'ProvedIsOpened',
      fault: 'nobody checks that what is proved was opened',
      find: 'THEN {"opening"}',
      put: 'THEN {}',
    },
    {
      kills: 'ExchangeIsShown',
      fault: 'clients do not look for what their cells become',
      find: 'THEN {"exchange"}',
      put: 'THEN {}',
      instance: 1,
    },
    {
      kills: 'HonestIsNotAccused',
      fault: 'a cell may be shown as one of another circuit',
      find: 'Names(c, circuit) == c = circuit',
      put: 'Names(c, circuit) == TRUE',
      instance: 2,
    },
    {
      kills: 'ProvedWasDelayed',
      fault: 'nobody checks that the delay was computed',
      find: 'IF ~computed THEN {"delay"}\n  ELSE ',
      put: '',
    },
    {
      kills: 'BrokenReceiptIsShown',
      fault: 'the receipt is not compared with the proof',
      find: 'THEN {"receipt"}',
      put: 'THEN {}',
    },
    {
      kills: 'TakenOnce',
      fault: 'the next hop does not look into its replay window',
      find: '     \\/ /\\ c \\notin seen\n        /\\ seen',
      put: '     \\/ /\\ seen',
      instance: 1,
    },
    {
      kills: 'NothingEarly',
      fault: 'cells leave when the batch is closed',
      find: 'THEN phase \\in {"delayed", "told"}',
      put: 'THEN phase # "open"',
      instance: 2,
    },
    {
      kills: 'ReceiptIsKept',
      fault: 'cells with a receipt that are never proved are only counted',
      find: 'THEN {"withheld"} ELSE {}',
      put: 'THEN {} ELSE {}',
    },
    {
      kills: 'GivenIsCounted',
      fault: 'cells that are never proved are kept for ever',
      find: 'WF_vars(SettleGiven) /\\ ',
      put: '',
    },
    {
      kills: 'TakenIsProved',
      fault: 'what a neighbour sends is not compared with what it proves',
      find: '  /\\ \\E c \\in Leaving : got[c] = "got"\n',
      put: '  /\\ FALSE\n',
      instance: 1,
    },
    {
      kills: 'SplitIsShown',
      fault: 'neighbours do not tell each other which statements they have heard',
      find: '/\\ WF_vars(Compare) ',
      put: '',
      instance: 1,
    },
    {
      kills: 'HonestBatchLeaves',
      fault: 'a batch whose delay is over is not given out',
      find: '  /\\ \\A c \\in Leaving : WF_vars(honest /\\ c \\notin sent /\\ Send(c))\n',
      put: '',
      instance: 2,
    },
  ],
};

export const models: readonly Model[] = [
  handshake,
  rekey,
  train,
  circuit,
  stream,
  view,
  supervisor,
  keys,
  reload,
  session,
  mixBatch,
];

/** A run is over when nothing more can happen: deadlock is no fault here, not to end is (the temporal properties). */
export function configOf(
  instance: Pick<Instance, 'constants'>,
  invariants: readonly string[],
  temporal: readonly string[],
): string {
  const constants = Object.entries(instance.constants).map(([name, value]) => `  ${name} = ${value}`);
  return [
    'SPECIFICATION Spec',
    'CHECK_DEADLOCK FALSE',
    'CONSTANTS',
    ...constants,
    ...(invariants.length > 0 ? [`INVARIANTS ${invariants.join(' ')}`] : []),
    ...(temporal.length > 0 ? [`PROPERTIES ${temporal.join(' ')}`] : []),
    '',
  ].join('\n');
}
