-------------------------------- MODULE Session --------------------------------
(* A session over several circuits (docs/protocol.md §5.5; core/engine/client-session.ts, served-session.ts). It begins on  *)
(* its first circuit. Others are attached with a proof of the session's ticket over the new circuit's own binding. A circuit *)
(* that fails takes what was under way on it along; either end notices in its own time, and the sender sends again over      *)
(* another one. The last hop keeps a session that has lost its circuits for a while, with what it has received; the client    *)
(* brings it onto a new circuit, or gives it up. Acknowledgements may be lost. The adversary ends circuits, and attaches       *)
(* circuits of its own with any proof that was ever made.                                                                *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Paths,          \* circuits; 1 is the one the session begins on
  Size            \* units of data that the client has for the last hop's side, in order

Units == 0..(Size - 1)

VARIABLES
  mine,           \* per path: built by the session's client (else by the adversary)
  alive,          \* per path: the circuit carries what it is given
  near,           \* per path, what the client has: "none", "open" (built), "gone"
  far,            \* per path, what the last hop has: "none", "newcomer", "attached", "gone"
  proofs,         \* bindings that the client has made a proof over
  sent, acked,    \* units
  flight,         \* {<<path, unit>>}
  got,            \* units that arrived, in any order
  given,          \* units given to the application: all below
  twice,          \* a unit was given twice or out of order
  client,         \* "open", "failed", "done"
  server          \* "open", "waiting" (no circuit), "ended"

vars == <<mine, alive, near, far, proofs, sent, acked, flight, got, given, twice, client, server>>
data == <<sent, acked, flight, got, given, twice>>

TypeOK ==
  /\ \A p \in Paths : near[p] \in {"none", "open", "gone"} /\ far[p] \in {"none", "newcomer", "attached", "gone"}
  /\ client \in {"open", "failed", "done"} /\ server \in {"open", "waiting", "ended"}

Init ==
  /\ mine = [p \in Paths |-> TRUE]
  /\ alive = [p \in Paths |-> p = 1]
  /\ near = [p \in Paths |-> IF p = 1 THEN "open" ELSE "none"]
  /\ far = [p \in Paths |-> IF p = 1 THEN "attached" ELSE "none"]
  /\ proofs = {}
  /\ sent = {} /\ acked = {} /\ flight = {} /\ got = {} /\ given = 0 /\ twice = FALSE
  /\ client = "open" /\ server = "open"

Attached == {p \in Paths : far[p] = "attached"}
\* What the client sends on.
Usable == {p \in Paths : mine[p] /\ near[p] = "open"}

\* The client builds one more circuit, and shows on it that the session is its own.
Build(p) ==
  /\ client = "open" /\ near[p] = "none" /\ far[p] = "none"
  /\ near' = [near EXCEPT ![p] = "open"]
  /\ far' = [far EXCEPT ![p] = "newcomer"]
  /\ alive' = [alive EXCEPT ![p] = TRUE]
  /\ proofs' = proofs \cup {p}
  /\ UNCHANGED <<mine, data, client, server>>

\* Somebody else builds a circuit to the same last hop.
Intrude(p) ==
  /\ near[p] = "none" /\ far[p] = "none"
  /\ mine' = [mine EXCEPT ![p] = FALSE]
  /\ far' = [far EXCEPT ![p] = "newcomer"]
  /\ alive' = [alive EXCEPT ![p] = TRUE]
  /\ UNCHANGED <<near, proofs, data, client, server>>

\* The proof over binding b is shown on circuit p; the adversary may show any that exists.
Attach(p, b) ==
  /\ far[p] = "newcomer" /\ alive[p]
  /\ b \in proofs
  /\ b = p
  /\ server # "ended"
  /\ far' = [far EXCEPT ![p] = "attached"]
  /\ server' = "open"
  /\ UNCHANGED <<mine, alive, near, proofs, data, client>>

\* There is no such session any more: the client learns it.
Refused(p) ==
  /\ far[p] = "newcomer" /\ alive[p] /\ server = "ended"
  /\ far' = [far EXCEPT ![p] = "gone"]
  /\ client' = IF mine[p] /\ client = "open" THEN "failed" ELSE client
  /\ UNCHANGED <<mine, alive, near, proofs, data, server>>

Send(p, u) ==
  /\ client = "open" /\ p \in Usable /\ u \notin sent /\ \A v \in Units : v < u => v \in sent
  /\ sent' = sent \cup {u}
  /\ flight' = IF alive[p] THEN flight \cup {<<p, u>>} ELSE flight
  /\ UNCHANGED <<mine, alive, near, far, proofs, acked, got, given, twice, client, server>>

\* What is not acknowledged and not under way on a circuit that lives goes again, over any.
SendAgain(p, u) ==
  /\ client = "open" /\ p \in Usable /\ alive[p] /\ u \in sent \ acked
  /\ \A f \in flight : f[2] # u
  /\ flight' = flight \cup {<<p, u>>}
  /\ UNCHANGED <<mine, alive, near, far, proofs, sent, acked, got, given, twice, client, server>>

Receive(f) ==
  /\ server = "open" /\ f \in flight /\ f[1] \in Attached
  /\ f[2] \notin got
  /\ got' = got \cup {f[2]}
  /\ given' = IF f[2] = given THEN given + 1 ELSE given
  /\ twice' = (twice \/ f[2] < given)
  /\ flight' = flight \ {f}
  /\ acked' \in {acked, acked \cup {f[2]}}
  /\ UNCHANGED <<mine, alive, near, far, proofs, sent, client, server>>

\* A copy over another circuit, of what is there already.
ReceiveAgain(f) ==
  /\ server = "open" /\ f \in flight /\ f[1] \in Attached /\ f[2] \in got
  /\ flight' = flight \ {f}
  /\ acked' = acked \cup {f[2]}
  /\ UNCHANGED <<mine, alive, near, far, proofs, sent, got, given, twice, client, server>>

\* Units that came early are given when their turn has come.
Give ==
  /\ server # "ended" /\ given \in got
  /\ given' = given + 1
  /\ UNCHANGED <<mine, alive, near, far, proofs, sent, acked, flight, got, twice, client, server>>

\* A relay dies, or whoever is in between cuts the line.
Cut(p) ==
  /\ alive[p]
  /\ alive' = [alive EXCEPT ![p] = FALSE]
  /\ flight' = {f \in flight : f[1] # p}
  /\ UNCHANGED <<mine, near, far, proofs, sent, acked, got, given, twice, client, server>>

ClientNotices(p) ==
  /\ near[p] = "open" /\ ~alive[p]
  /\ near' = [near EXCEPT ![p] = "gone"]
  /\ UNCHANGED <<mine, alive, far, proofs, data, client, server>>

\* With its last circuit a session begins to wait; one that has nothing open, or no room, ends.
LastHopNotices(p) ==
  /\ far[p] \in {"newcomer", "attached"} /\ ~alive[p]
  /\ far' = [far EXCEPT ![p] = "gone"]
  /\ server' \in IF server = "open" /\ Attached \subseteq {p} THEN {"waiting", "ended"} ELSE {server}
  /\ UNCHANGED <<mine, alive, near, proofs, data, client>>

\* Nobody came, or the room is needed.
WaitIsOver ==
  /\ server = "waiting"
  /\ server' = "ended"
  /\ UNCHANGED <<mine, alive, near, far, proofs, data, client>>

\* The client has no circuit and gets no other.
GiveUp ==
  /\ client = "open" /\ Usable = {}
  /\ client' = "failed"
  /\ UNCHANGED <<mine, alive, near, far, proofs, data, server>>

Done ==
  /\ client = "open" /\ acked = Units
  /\ client' = "done"
  /\ UNCHANGED <<mine, alive, near, far, proofs, data, server>>

\* The client says that it is done.
CloseArrives(p) ==
  /\ client # "open" /\ server = "open" /\ p \in Attached /\ alive[p] /\ mine[p]
  /\ server' = "ended"
  /\ far' = [q \in Paths |-> IF q \in Attached THEN "gone" ELSE far[q]]
  /\ UNCHANGED <<mine, alive, near, proofs, data, client>>

\* A client that is done or has given up lets its circuits go.
LetGo(p) ==
  /\ client # "open" /\ alive[p] /\ mine[p]
  /\ alive' = [alive EXCEPT ![p] = FALSE]
  /\ near' = [near EXCEPT ![p] = "gone"]
  /\ flight' = {f \in flight : f[1] # p}
  /\ UNCHANGED <<mine, far, proofs, sent, acked, got, given, twice, client, server>>

Next ==
  \/ \E p \in Paths :
       \/ Build(p) \/ Intrude(p) \/ Refused(p) \/ Cut(p) \/ ClientNotices(p) \/ LastHopNotices(p)
       \/ CloseArrives(p) \/ LetGo(p)
       \/ \E b \in Paths : Attach(p, b)
       \/ \E u \in Units : Send(p, u) \/ SendAgain(p, u)
  \/ \E f \in flight : Receive(f) \/ ReceiveAgain(f)
  \/ Give \/ WaitIsOver \/ GiveUp \/ Done

Fairness ==
  /\ \A p \in Paths :
       /\ WF_vars(ClientNotices(p)) /\ WF_vars(LastHopNotices(p)) /\ WF_vars(Refused(p)) /\ WF_vars(LetGo(p))
       /\ WF_vars(Attach(p, p))
       /\ \A u \in Units :
            /\ WF_vars(Send(p, u)) /\ WF_vars(SendAgain(p, u))
            \* On a circuit that lives what is sent again and again arrives, and so does its acknowledgement.
            /\ WF_vars(Receive(<<p, u>>)) /\ WF_vars(ReceiveAgain(<<p, u>>))
  /\ WF_vars(Give) /\ WF_vars(WaitIsOver) /\ WF_vars(GiveUp) /\ WF_vars(Done)

Spec == Init /\ [][Next]_vars /\ Fairness

ExactlyOnce == ~twice /\ given <= Size /\ \A u \in Units : u < given => u \in got
OnlyMineAttached == \A p \in Attached : mine[p]
DoneMeansAll == client = "done" => got = Units
\* Who waits has no circuit, who has none waits or is over: nothing is held without a timer that ends it.
WaitsWithoutCircuit == (server = "waiting") => Attached = {}
HeldIsBounded == (Attached = {}) => server # "open"
EndedHoldsNothing == (server = "ended") => Attached = {}
ClientEnds == <>(client \in {"failed", "done"})
LastHopEnds == <>(server = "ended")
=============================================================================
