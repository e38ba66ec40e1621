------------------------------ MODULE Handshake ------------------------------
(* Link handshake of docs/protocol.md §2.1 and §2.2 (core/link/initiator.ts, responder.ts): init, cookie, response,   *)
(* the initiator's first control cell. One honest named initiator "I" opens several links; one responder; an adversary *)
(* who sees every datagram, may leave any of them undelivered, deliver it twice, late and from an address of its own,  *)
(* alter it, and write inits of its own that claim I's name. The responder may crash and forget all but its keys.      *)
(*                                                                                                                      *)
(* Cryptography is symbolic: who does not hold a secret cannot make what needs it. "wire" only grows: losing,           *)
(* duplicating, reordering and replaying are all ways of reading from it.                                               *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Tries,          \* ephemeral keys of I's handshakes; also their timestamps: 1..n
  Forged,         \* ephemeral keys of the adversary, numbers above those of Tries
  FarFuture,      \* a timestamp the adversary writes
  MaxUnproved,    \* accepted links that may wait for their proof
  MaxCrashes

ASSUME Tries \cap Forged = {}

Ephemerals == Tries \cup Forged
MaxLinks == Cardinality(Ephemerals) * (MaxCrashes + 1)
Sources == {"I", "A"}           \* address the datagram comes from
Modes == {"hybrid", "classical"}

VARIABLES
  wire,           \* everything ever sent
  initiator,      \* per try: "idle", "waiting", "up", "failed"
  key,            \* per try: what the responder put into the response, 0 = nothing
  load,           \* the responder asks for cookies
  seen,           \* ephemeral keys of inits it has worked on
  links,          \* accepted links: [e, k, mode, st], st \in "unproved", "up", "gone"
  stamps,         \* timestamps remembered for I's name
  fresh,          \* the responder's next ephemeral key
  crashes,
  workedUnproved  \* public-key work was done under load for an address that was not proved

vars == <<wire, initiator, key, load, seen, links, stamps, fresh, crashes, workedUnproved>>

\* What an init says of its time: a try's own number; the adversary writes what it likes.
Stamp(e) == IF e \in Forged THEN FarFuture ELSE e
Unproved == {l \in links : l.st = "unproved"}

TypeOK ==
  /\ \A e \in Tries : initiator[e] \in {"idle", "waiting", "up", "failed"}
  /\ \A l \in links : l.e \in Ephemerals /\ l.st \in {"unproved", "up", "gone"} /\ l.mode \in Modes

Init ==
  /\ wire = {}
  /\ initiator = [e \in Tries |-> "idle"]
  /\ key = [e \in Tries |-> 0]
  /\ load \in BOOLEAN
  /\ seen = {} /\ links = {} /\ stamps = {}
  /\ fresh = 1 /\ crashes = 0 /\ workedUnproved = FALSE

InitMsg(e, src, cookie, mode) == [t |-> "init", e |-> e, src |-> src, cookie |-> cookie, mode |-> mode]
CookieMsg(e, src) == [t |-> "cookie", e |-> e, src |-> src]
Response(e, k) == [t |-> "response", e |-> e, k |-> k]
Cell(e, k) == [t |-> "cell", e |-> e, k |-> k]

\* --- the initiator

Connect(e) ==
  /\ initiator[e] = "idle"
  /\ initiator' = [initiator EXCEPT ![e] = "waiting"]
  /\ wire' = wire \cup {InitMsg(e, "I", FALSE, "hybrid")}
  /\ UNCHANGED <<key, load, seen, links, stamps, fresh, crashes, workedUnproved>>

TakeCookie(e) ==
  /\ initiator[e] = "waiting"
  /\ CookieMsg(e, "I") \in wire
  /\ wire' = wire \cup {InitMsg(e, "I", TRUE, "hybrid")}
  /\ wire' # wire
  /\ UNCHANGED <<initiator, key, load, seen, links, stamps, fresh, crashes, workedUnproved>>

\* A response opens only under keys that its maker shares: the responder's, for this ephemeral key.
TakeResponse(e) ==
  /\ initiator[e] = "waiting"
  /\ \E m \in wire :
       /\ m.t = "response" /\ m.e = e
       /\ key' = [key EXCEPT ![e] = m.k]
       /\ wire' = wire \cup {Cell(e, m.k)}
  /\ initiator' = [initiator EXCEPT ![e] = "up"]
  /\ UNCHANGED <<load, seen, links, stamps, fresh, crashes, workedUnproved>>

GiveUp(e) ==
  /\ initiator[e] = "waiting"
  /\ initiator' = [initiator EXCEPT ![e] = "failed"]
  /\ UNCHANGED <<wire, key, load, seen, links, stamps, fresh, crashes, workedUnproved>>

\* --- the responder

AskCookie ==
  /\ load
  /\ \E m \in wire :
       /\ m.t = "init" /\ ~m.cookie
       /\ CookieMsg(m.e, m.src) \notin wire
       /\ wire' = wire \cup {CookieMsg(m.e, m.src)}
  /\ UNCHANGED <<initiator, key, load, seen, links, stamps, fresh, crashes, workedUnproved>>

\* Checks in the order of responder.ts: cookie, seen before, room, (public-key work), tag, timestamp.
Accept ==
  \E m \in wire :
    /\ m.t = "init"
    /\ load => m.cookie
    /\ m.e \notin seen
    /\ Cardinality(Unproved) < MaxUnproved
    /\ workedUnproved' = (workedUnproved \/ (load /\ ~m.cookie))
    /\ seen' = seen \cup {m.e}
    /\ IF m.mode = "hybrid" /\ Stamp(m.e) \notin stamps
       THEN /\ links' = links \cup {[e |-> m.e, k |-> fresh, mode |-> m.mode, st |-> "unproved"]}
            /\ wire' = wire \cup {Response(m.e, fresh)}
            /\ fresh' = fresh + 1
       ELSE UNCHANGED <<links, wire, fresh>>
    /\ UNCHANGED <<initiator, key, load, stamps, crashes>>

\* The first control cell that verifies: the initiator holds the keys, and is who it says it is.
Prove ==
  \E l \in Unproved :
    /\ Cell(l.e, l.k) \in wire
    /\ links' = (links \ {l}) \cup {[l EXCEPT !.st = "up"]}
    /\ stamps' = stamps \cup {Stamp(l.e)}
    /\ UNCHANGED <<wire, initiator, key, load, seen, fresh, crashes, workedUnproved>>

Expire ==
  \E l \in Unproved :
    /\ links' = (links \ {l}) \cup {[l EXCEPT !.st = "gone"]}
    /\ UNCHANGED <<wire, initiator, key, load, seen, stamps, fresh, crashes, workedUnproved>>

Crash ==
  /\ crashes < MaxCrashes
  /\ crashes' = crashes + 1
  /\ links' = {[l EXCEPT !.st = "gone"] : l \in links}
  /\ seen' = {} /\ stamps' = {}
  /\ UNCHANGED <<wire, initiator, key, load, fresh, workedUnproved>>

\* --- the adversary

\* From its own address, or from I's (spoofed), with what anybody can compute of it.
Forge(e) ==
  /\ \E src \in Sources : wire' = wire \cup {InitMsg(e, src, FALSE, "hybrid")}
  /\ wire' # wire
  /\ UNCHANGED <<initiator, key, load, seen, links, stamps, fresh, crashes, workedUnproved>>

\* An honest init again, from the adversary's address; with a cookie once it has got one for that address.
Replay(e) ==
  /\ \E m \in wire : m.t = "init" /\ m.e = e
  /\ \E proved \in BOOLEAN :
       /\ proved => CookieMsg(e, "A") \in wire
       /\ wire' = wire \cup {InitMsg(e, "A", proved, "hybrid")}
  /\ wire' # wire
  /\ UNCHANGED <<initiator, key, load, seen, links, stamps, fresh, crashes, workedUnproved>>

\* One bit altered: what the init asks for, say. Its tag no longer verifies.
Alter(e) ==
  /\ InitMsg(e, "I", FALSE, "hybrid") \in wire
  /\ wire' = wire \cup {InitMsg(e, "A", FALSE, "classical")}
  /\ wire' # wire
  /\ UNCHANGED <<initiator, key, load, seen, links, stamps, fresh, crashes, workedUnproved>>

Next ==
  \/ \E e \in Tries : Connect(e) \/ TakeCookie(e) \/ TakeResponse(e) \/ GiveUp(e) \/ Replay(e) \/ Alter(e)
  \/ \E e \in Forged : Forge(e)
  \/ AskCookie \/ Accept \/ Prove \/ Expire \/ Crash

Fairness == (\A e \in Tries : WF_vars(GiveUp(e))) /\ WF_vars(Expire)

Spec == Init /\ [][Next]_vars /\ Fairness

\* --- properties

\* Two accepted links never have the same keys: a replayed init gives keys of its own, or nothing.
KeysUnique == \A l, m \in links : (l.e = m.e /\ l.k = m.k) => l = m

\* A link counts as up only when I holds exactly these keys (no state changes on anybody else's word).
UpMeansAuthentic == \A l \in links : l.st = "up" => (l.e \in Tries /\ initiator[l.e] = "up" /\ key[l.e] = l.k)

\* One handshake never becomes two links that are up.
UpOnce == \A l, m \in links : (l.st = "up" /\ m.st = "up" /\ l.e = m.e) => l = m

NoDowngrade == \A l \in links : l.mode = "hybrid"

CookieBeforeWork == ~workedUnproved

\* Nobody but I can use up I's timestamps.
StampsAreProved == stamps \subseteq Tries

UnprovedBounded == Cardinality(Unproved) <= MaxUnproved

EverySetUpEnds == \A e \in Tries : (initiator[e] = "waiting") ~> (initiator[e] # "waiting")
UnprovedEnds == \A k \in 1..MaxLinks : (\E l \in Unproved : l.k = k) ~> (\A l \in Unproved : l.k # k)
=============================================================================
