------------------------------- MODULE MixBatch -------------------------------
(* DESIGN, not built: a batch of the class cmix. A mix takes a batch of cells, and only after the batch is closed gives     *)
(* out the same cells, each under one layer less, in an order of its own. It publishes an accumulator of what it took and    *)
(* a proof that what it gave is a permutation of that; whoever brought a cell has a signed receipt and checks that it is in   *)
(* the accumulator; the next hop checks that what it got is what was given. The mix may be corrupt: it may leave cells out,   *)
(* add some, double some, and lie in what it publishes.                                                                  *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Cells,          \* cells that are brought
  Own             \* cells that the mix makes up
  
ASSUME Cells \cap Own = {}
All == Cells \cup Own

VARIABLES
  phase,          \* "open", "closed", "given", "checked"
  brought,        \* cells with a receipt
  claimed,        \* the accumulator: what it says it took
  gave,           \* per cell: how often it gave it
  alarm,          \* someone has proof that the mix cheated
  early           \* something was given before the batch was closed

vars == <<phase, brought, claimed, gave, alarm, early>>

TypeOK == phase \in {"open", "closed", "given", "checked"} /\ \A c \in All : gave[c] \in 0..2

Init ==
  /\ phase = "open" /\ brought = {} /\ claimed = {} /\ gave = [c \in All |-> 0] /\ alarm = FALSE /\ early = FALSE

Bring(c) ==
  /\ phase = "open" /\ c \notin brought
  /\ brought' = brought \cup {c}
  /\ UNCHANGED <<phase, claimed, gave, alarm, early>>

\* The accumulator is published when the batch is closed: before its VDF is through, hence before any cell goes out.
Close(s) ==
  /\ phase = "open" /\ brought # {}
  /\ phase' = "closed"
  /\ claimed' = s
  /\ UNCHANGED <<brought, gave, alarm, early>>

\* Anything at all: a corrupt mix.
Give(f) ==
  /\ phase = "closed"
  /\ phase' = "given"
  /\ gave' = f
  /\ early' = (early \/ phase = "open")
  /\ UNCHANGED <<brought, claimed, alarm>>

\* Each who brought a cell looks for it in the accumulator; the next hop checks the proof over what it got.
ReceiptsHold == brought \subseteq claimed
IsPermutation == \A c \in All : gave[c] = (IF c \in claimed THEN 1 ELSE 0)
CountHolds == Cardinality(claimed) = Cardinality(brought)
Check ==
  /\ phase = "given"
  /\ phase' = "checked"
  /\ alarm' = ~(ReceiptsHold /\ IsPermutation /\ CountHolds)
  /\ UNCHANGED <<brought, claimed, gave, early>>

Next ==
  \/ \E c \in Cells : Bring(c)
  \/ \E s \in SUBSET All : Close(s)
  \/ \E f \in [All -> 0..2] : Give(f)
  \/ Check

Spec == Init /\ [][Next]_vars /\ WF_vars(Check) /\ WF_vars(\E f \in [All -> 0..2] : Give(f))

Unseen == phase = "checked" /\ ~alarm
NothingDropped == Unseen => \A c \in brought : gave[c] >= 1
NothingDoubled == Unseen => \A c \in All : gave[c] <= 1
NothingAdded == Unseen => \A c \in All : gave[c] > 0 => c \in brought
NothingEarly == ~early
BatchEnds == (phase = "closed") ~> (phase = "checked")
=============================================================================
