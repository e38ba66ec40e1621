-------------------------------- MODULE Train --------------------------------
(* What a node remembers of set-up trains, docs/protocol.md §4 (core/onion/mix-key-ring.ts, setup-train.ts,             *)
(* daemon/pump/setup-memory.ts). A train opened twice would give two circuits the same chains: cells of the one could    *)
(* be played into the other, and the node would seal different cells under one key and nonce. The neighbour that         *)
(* delivers a train is corrupt: it may deliver it again, later, and over another link, which may end in another worker.   *)
(* Workers and the whole process crash and start again with the same epoch keys.                                         *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Trains,         \* trains of honest clients; each is made for the epoch in which it is delivered first
  Workers,
  MaxEpoch,
  MaxCrashes

VARIABLES
  epoch,
  madeFor,        \* per train: the epoch whose key it was made for; 0 = not made yet
  held,           \* epochs whose mix keys the node holds
  memory,         \* <<epoch, train>> that all workers look at
  kept,           \* the same on disk
  circuits,       \* accepted: [train, worker, id]
  made,           \* trains accepted, in order: one id each
  alive,          \* workers that run
  crashes

vars == <<epoch, madeFor, held, memory, kept, circuits, made, alive, crashes>>

TypeOK == held \subseteq 1..MaxEpoch /\ alive \subseteq Workers

Init ==
  /\ epoch = 1
  /\ madeFor = [t \in Trains |-> 0]
  /\ held = {1} /\ memory = {} /\ kept = {} /\ circuits = {} /\ made = 0
  /\ alive = Workers /\ crashes = 0

\* A client makes a train for the present epoch.
Make(t) ==
  /\ madeFor[t] = 0
  /\ madeFor' = [madeFor EXCEPT ![t] = epoch]
  /\ UNCHANGED <<epoch, held, memory, kept, circuits, made, alive, crashes>>

\* Present and previous epoch are held; the key and the memory of an epoch go together.
NextEpoch ==
  /\ epoch < MaxEpoch
  /\ epoch' = epoch + 1
  /\ held' = {e \in 1..MaxEpoch : e \in {epoch, epoch + 1}}
  /\ memory' = {m \in memory : m[1] \in held'}
  /\ kept' = {m \in kept : m[1] \in held'}
  /\ UNCHANGED <<madeFor, circuits, made, alive, crashes>>

\* A train is delivered, for the first time or again, to the worker that the kernel picks.
Deliver(t, w) ==
  /\ w \in alive
  /\ madeFor[t] \in held
  /\ <<madeFor[t], t>> \notin memory
  /\ memory' = memory \cup {<<madeFor[t], t>>}
  /\ kept' = kept \cup {<<madeFor[t], t>>}
  /\ circuits' = circuits \cup {[train |-> t, worker |-> w, id |-> made]}
  /\ made' = made + 1
  /\ UNCHANGED <<epoch, madeFor, held, alive, crashes>>

\* A worker's circuits go with it; what was remembered stays with the others.
CrashWorker(w) ==
  /\ crashes < MaxCrashes /\ w \in alive
  /\ crashes' = crashes + 1
  /\ alive' = alive \ {w}
  /\ UNCHANGED <<epoch, madeFor, held, memory, kept, circuits, made>>

\* The process dies: all that is left is on disk.
CrashAll ==
  /\ crashes < MaxCrashes
  /\ crashes' = crashes + 1
  /\ alive' = {}
  /\ memory' = {}
  /\ UNCHANGED <<epoch, madeFor, held, kept, circuits, made>>

Start(w) ==
  /\ w \notin alive
  /\ alive' = alive \cup {w}
  /\ memory' = memory \cup kept
  /\ UNCHANGED <<epoch, madeFor, held, kept, circuits, made, crashes>>

Next ==
  \/ NextEpoch \/ CrashAll
  \/ \E t \in Trains : Make(t) \/ \E w \in Workers : Deliver(t, w)
  \/ \E w \in Workers : CrashWorker(w) \/ Start(w)

Spec == Init /\ [][Next]_vars /\ \A w \in Workers : WF_vars(Start(w))

\* --- properties

\* No two circuits, past or present, share a train and with it their chains.
ChainsUnique == \A c, d \in circuits : c.train = d.train => c = d

\* Circuits are made under keys that the epoch allows, and a train of an epoch that is over opens nothing.
OldEpochsErased == \A e \in held : e + 1 >= epoch

WorkersComeBack == \A w \in Workers : (w \notin alive) ~> (w \in alive)
=============================================================================
