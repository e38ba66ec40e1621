-------------------------------- MODULE Session --------------------------------
(* DESIGN as far as attaching goes: a session over several circuits (paths, core/stream/session-path.ts). Circuits are    *)
(* attached with a proof of the session's secret over the last hop's challenge; a circuit that fails takes what was under   *)
(* way on it along; the sender sends that again over another one; a session without any circuit is resumed within a grace   *)
(* time or fails. Acknowledgements may be lost. The adversary ends circuits, and opens circuits of its own, to attach them   *)
(* with proofs it has seen.                                                                                              *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Paths,          \* circuits, in the order of their attachment
  Size            \* units of data to deliver in order

Units == 0..(Size - 1)

VARIABLES
  circuit,        \* per path: "none", "challenged", "attached", "failed"
  mine,           \* per path: built by the session's client (else by the adversary)
  proofs,         \* challenges that were answered by the client: each is good for one circuit
  used,           \* challenges a circuit was attached with
  sent, acked,    \* units
  flight,         \* {<<path, unit>>}
  got,            \* units that arrived, in any order
  given,          \* units given to the application: all below
  twice,          \* a unit was given twice or out of order
  state           \* "open", "failed", "done"

vars == <<circuit, mine, proofs, used, sent, acked, flight, got, given, twice, state>>

TypeOK == \A p \in Paths : circuit[p] \in {"none", "challenged", "attached", "failed"}

Init ==
  /\ circuit = [p \in Paths |-> "none"]
  /\ mine = [p \in Paths |-> TRUE]
  /\ proofs = {} /\ used = {}
  /\ sent = {} /\ acked = {} /\ flight = {} /\ got = {} /\ given = 0 /\ twice = FALSE
  /\ state = "open"

Attached == {p \in Paths : circuit[p] = "attached"}

\* The last hop gives each new circuit a challenge of its own.
Open(p, byClient) ==
  /\ state = "open" /\ circuit[p] = "none"
  /\ circuit' = [circuit EXCEPT ![p] = "challenged"]
  /\ mine' = [mine EXCEPT ![p] = byClient]
  /\ proofs' = IF byClient THEN proofs \cup {p} ELSE proofs
  /\ UNCHANGED <<used, sent, acked, flight, got, given, twice, state>>

\* A proof over this circuit's challenge: the client made it for this one and no other.
Attach(p) ==
  /\ state = "open" /\ circuit[p] = "challenged"
  /\ p \in proofs
  /\ p \notin used
  /\ circuit' = [circuit EXCEPT ![p] = "attached"]
  /\ used' = used \cup {p}
  /\ UNCHANGED <<mine, proofs, sent, acked, flight, got, given, twice, state>>

Send(p, u) ==
  /\ state = "open" /\ p \in Attached /\ u \notin sent /\ \A v \in Units : v < u => v \in sent
  /\ sent' = sent \cup {u}
  /\ flight' = flight \cup {<<p, u>>}
  /\ UNCHANGED <<circuit, mine, proofs, used, acked, got, given, twice, state>>

\* What is neither acknowledged nor under way on a circuit that lives goes again, over any.
SendAgain(p, u) ==
  /\ state = "open" /\ p \in Attached /\ u \in sent \ acked
  /\ \A f \in flight : f[2] # u
  /\ flight' = flight \cup {<<p, u>>}
  /\ UNCHANGED <<circuit, mine, proofs, used, sent, acked, got, given, twice, state>>

Receive(f) ==
  /\ state = "open" /\ f \in flight /\ f[1] \in Attached
  /\ f[2] \notin got
  /\ got' = got \cup {f[2]}
  /\ given' = IF f[2] = given THEN given + 1 ELSE given
  /\ twice' = (twice \/ f[2] < given)
  /\ flight' = flight \ {f}
  /\ acked' \in {acked, acked \cup {f[2]}}
  /\ UNCHANGED <<circuit, mine, proofs, used, sent, state>>

\* A copy over another circuit, of what is there already.
ReceiveAgain(f) ==
  /\ state = "open" /\ f \in flight /\ f[2] \in got
  /\ flight' = flight \ {f}
  /\ acked' = acked \cup {f[2]}
  /\ UNCHANGED <<circuit, mine, proofs, used, sent, got, given, twice, state>>

\* Units that came early are given when their turn has come.
Give ==
  /\ state = "open" /\ given \in got
  /\ given' = given + 1
  /\ UNCHANGED <<circuit, mine, proofs, used, sent, acked, flight, got, twice, state>>

Fail(p) ==
  /\ circuit[p] \in {"challenged", "attached"}
  /\ circuit' = [circuit EXCEPT ![p] = "failed"]
  /\ flight' = {f \in flight : f[1] # p}
  /\ UNCHANGED <<mine, proofs, used, sent, acked, got, given, twice, state>>

\* No circuit is left and none was attached within the grace time.
GraceOver ==
  /\ state = "open" /\ Attached = {}
  /\ state' = "failed"
  /\ UNCHANGED <<circuit, mine, proofs, used, sent, acked, flight, got, given, twice>>

Done ==
  /\ state = "open" /\ given = Size
  /\ state' = "done"
  /\ UNCHANGED <<circuit, mine, proofs, used, sent, acked, flight, got, given, twice>>

Next ==
  \/ \E p \in Paths : Open(p, TRUE) \/ Open(p, FALSE) \/ Attach(p) \/ Fail(p) \/ \E u \in Units : Send(p, u) \/ SendAgain(p, u)
  \/ \E f \in flight : Receive(f) \/ ReceiveAgain(f)
  \/ Give \/ GraceOver \/ Done

Fairness ==
  /\ \A p \in Paths, u \in Units : WF_vars(Send(p, u)) /\ WF_vars(SendAgain(p, u)) /\ WF_vars(Receive(<<p, u>>))
  /\ WF_vars(Give) /\ WF_vars(GraceOver) /\ WF_vars(Done)

Spec == Init /\ [][Next]_vars /\ Fairness

ExactlyOnce == ~twice /\ given <= Size /\ \A u \in Units : u < given => u \in got
OnlyMineAttached == \A p \in Attached : mine[p]
ProofUsedOnce == used \subseteq proofs
DoneMeansAll == state = "done" => got = Units
SessionEnds == <>(state \in {"failed", "done"})
=============================================================================
