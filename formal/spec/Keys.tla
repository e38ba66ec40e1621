--------------------------------- MODULE Keys ---------------------------------
(* Epoch keys of a node and the views that name them (daemon/actors/epoch-keys.ts, daemon/actors/directory.ts): made an    *)
(* epoch ahead, published in the descriptor, named by the epoch's view, in use from a little before the epoch begins to     *)
(* the end of the one after and a little longer, then erased. Time goes in steps: Steps of them make an epoch, the last     *)
(* one is the lead, and old keys lag by one. Clients' clocks are up to one step off, and a client may go by the view of     *)
(* the previous epoch until that is over.                                                                                  *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Steps,          \* steps of an epoch, at least 2
  MaxEpoch,
  MaxRotations    \* how often the operator has the keys renewed out of turn

Epochs == 0..(MaxEpoch + 1)

VARIABLES
  now,            \* steps since the first epoch began
  version,        \* per epoch: which key the node holds for it, 0 = none (erased, or not made yet)
  using,          \* epochs whose keys the workers have
  posted,         \* per epoch: the key in the descriptor that the authorities have
  view,           \* per epoch: the key that its signed view names, 0 = no view, or the node is not in it
  rotations,
  everErased      \* epochs whose keys were erased

vars == <<now, version, using, posted, view, rotations, everErased>>

Epoch(t) == t \div Steps
\* In the last step of an epoch the next one's keys are in use already.
Latest(t) == (t + 1) \div Steps

TypeOK == using \subseteq Epochs

\* A clock that is a step behind is still in this epoch.
Lagging(t) == IF t = 0 THEN 0 ELSE (t - 1) \div Steps

\* Present and next are made; what is left of earlier ones is kept while a clock that lags may ask for it.
Wanted(t) == {k \in Epochs : k \in {Epoch(t), Epoch(t) + 1} \/ (k + 1 >= Lagging(t) /\ k < Epoch(t) /\ version[k] # 0)}

Init ==
  /\ now = 0
  /\ version = [k \in Epochs |-> IF k \in {0, 1} THEN 1 ELSE 0]
  /\ using = {0}
  /\ posted = [k \in Epochs |-> IF k \in {0, 1} THEN 1 ELSE 0]
  /\ view = [k \in Epochs |-> IF k = 0 THEN 1 ELSE 0]
  /\ rotations = 0 /\ everErased = {}

\* Assumed: a descriptor that changed is posted, and an epoch's view signed, within a step.
Prompt == posted = [k \in Epochs |-> IF k >= Epoch(now) THEN version[k] ELSE 0] /\ view[Epoch(now)] # 0

\* The clock goes on; the keys' actor does what is due.
Tick ==
  /\ Prompt
  /\ Epoch(now + 1) <= MaxEpoch
  /\ now' = now + 1
  /\ LET wanted == Wanted(now + 1)
     IN /\ version' = [k \in Epochs |-> IF k \notin wanted THEN 0 ELSE IF version[k] = 0 THEN 1 ELSE version[k]]
        /\ using' = {k \in wanted : k <= Latest(now + 1)}
        /\ everErased' = everErased \cup {k \in Epochs : version[k] # 0 /\ k \notin wanted}
  /\ UNCHANGED <<posted, view, rotations>>

\* The descriptor reaches the authorities; what they had is replaced.
Post ==
  /\ posted # [k \in Epochs |-> IF k >= Epoch(now) THEN version[k] ELSE 0]
  /\ posted' = [k \in Epochs |-> IF k >= Epoch(now) THEN version[k] ELSE 0]
  /\ UNCHANGED <<now, version, using, view, rotations, everErased>>

\* The view of an epoch is made once, after it has begun, of the descriptors that are there.
SignView ==
  /\ view[Epoch(now)] = 0 /\ posted[Epoch(now)] # 0
  /\ view' = [view EXCEPT ![Epoch(now)] = posted[Epoch(now)]]
  /\ UNCHANGED <<now, version, using, posted, rotations, everErased>>

\* RotateEpochKeys: the next epoch's keys anew, the previous one's erased; not when the next ones are in use already, and
\* not before the authorities can still learn of it in time.
Rotate ==
  /\ rotations < MaxRotations
  /\ Latest(now) = Epoch(now)
  /\ rotations' = rotations + 1
  /\ LET e == Epoch(now) IN
       /\ version' = [k \in Epochs |-> IF k < e THEN 0 ELSE IF k = e + 1 THEN version[k] + 1 ELSE version[k]]
       /\ using' = {k \in using : k >= e}
       /\ everErased' = everErased \cup {k \in Epochs : k < e /\ version[k] # 0}
  /\ UNCHANGED <<now, posted, view>>

Next == Tick \/ Post \/ SignView \/ Rotate

Spec == Init /\ [][Next]_vars /\ WF_vars(Post) /\ WF_vars(Tick) /\ WF_vars(SignView)

\* --- properties

\* A client's clock may be one step off; it goes by the view of its epoch or of the one before.
ClientEpochs == {Epoch(t) : t \in {now, now + 1} \cup (IF now > 0 THEN {now - 1} ELSE {})}
Usable == {k \in Epochs : view[k] # 0 /\ \E e \in ClientEpochs : k \in {e, e - 1} /\ k <= e}

\* Whatever a client's view says, the node can open a train made for it. (Not for the previous epoch after the operator
\* has erased its keys: that is what the operator asked for.)
EveryViewOpens == \A k \in Usable : k \in using \/ rotations > 0
ViewNamesHeldKey == view[Epoch(now)] # 0 => view[Epoch(now)] = version[Epoch(now)]
\* Keys are gone for good when their second epoch is over.
OldKeysGone == \A k \in Epochs : k + 1 < Lagging(now) => version[k] = 0
ErasedStaysErased == \A k \in everErased : version[k] = 0
UsedIsHeld == \A k \in using : version[k] # 0

EveryEpochHasItsView == \A k \in 1..MaxEpoch : <>(view[k] # 0)
=============================================================================
