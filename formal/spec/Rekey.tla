-------------------------------- MODULE Rekey --------------------------------
(* Rekey and the control channel of a link that is up, docs/protocol.md §2.3 and §2.4 (core/link/link.ts). Keys are     *)
(* numbered by generation. Cells are lost, duplicated, delayed and reordered at will: "cells" only grows, and a side     *)
(* may read any of them at any time. The adversary has no keys, so all it can do is choose what arrives when.            *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  MaxGeneration,  \* rekeys that are tried
  MaxCells,       \* cells one side sends under one generation
  MaxSlots        \* receive keys held at once

Generations == 0..MaxGeneration
Sides == {"i", "r"}
None == MaxGeneration + 1

VARIABLES
  cells,          \* [d: direction (who sent it), g: generation, n: counter, b: body, to: generation the body speaks of]
  send,           \* per side: generation it sends under
  receive,        \* per side: generations it can open
  counter,        \* per side: next counter under `send`
  opened,         \* per side: {<<g, n>>} opened under that key (the replay window)
  doubles,        \* a cell was taken in twice
  rekeying,       \* initiator: generation it has asked for, or None
  next,           \* responder: generation it has agreed to and not used yet, or None
  heard,          \* initiator: a cell under its present generation has come
  alive

vars == <<cells, send, receive, counter, opened, doubles, rekeying, next, heard, alive>>

TypeOK ==
  /\ \A s \in Sides : send[s] \in Generations /\ receive[s] \subseteq Generations /\ counter[s] \in 0..MaxCells
  /\ rekeying \in Generations \cup {None} /\ next \in Generations \cup {None}

Init ==
  /\ cells = {}
  /\ send = [s \in Sides |-> 0]
  /\ receive = [s \in Sides |-> {0}]
  /\ counter = [s \in Sides |-> 0]
  /\ opened = [s \in Sides |-> {}]
  /\ doubles = FALSE
  /\ rekeying = None /\ next = None /\ heard = TRUE /\ alive = TRUE

Old(s) == {g \in receive[s] : g < send[s]}

Emit(s, body, to) ==
  /\ alive
  /\ counter[s] < MaxCells
  /\ cells' = cells \cup {[d |-> s, g |-> send[s], n |-> counter[s], b |-> body, to |-> to]}
  /\ counter' = [counter EXCEPT ![s] = @ + 1]

\* --- initiator

StartRekey ==
  /\ alive /\ rekeying = None /\ send["i"] < MaxGeneration
  /\ Cardinality(Old("i")) < MaxSlots - 2
  /\ rekeying' = send["i"] + 1
  /\ UNCHANGED <<cells, send, receive, counter, opened, doubles, next, heard, alive>>

\* Sent again until it is answered: the control channel is reliable.
SendInit ==
  /\ rekeying # None
  /\ Emit("i", "init", rekeying)
  /\ UNCHANGED <<send, receive, opened, doubles, rekeying, next, heard, alive>>

SendPing ==
  /\ Emit("i", "ping", None)
  /\ UNCHANGED <<send, receive, opened, doubles, rekeying, next, heard, alive>>

\* The response switches the initiator; a repetition of it says nothing new.
TakeAtInitiator(c) ==
  /\ alive
  /\ c.d = "r" /\ c.g \in receive["i"]
  /\ <<c.g, c.n>> \notin opened["i"]
  /\ doubles' = (doubles \/ <<c.g, c.n>> \in opened["i"])
  /\ opened' = [opened EXCEPT !["i"] = @ \cup {<<c.g, c.n>>}]
  /\ IF c.b = "response" /\ c.to = rekeying
     THEN /\ send' = [send EXCEPT !["i"] = c.to]
          /\ receive' = [receive EXCEPT !["i"] = @ \cup {c.to}]
          /\ counter' = [counter EXCEPT !["i"] = 0]
          /\ rekeying' = None
          /\ heard' = FALSE
     ELSE /\ heard' = (heard \/ c.g = send["i"])
          /\ UNCHANGED <<send, receive, counter, rekeying>>
  /\ UNCHANGED <<cells, next, alive>>

\* Old receive keys live on until the responder is known to have switched, and then 10 s. The responder's own 10 s began
\* when it switched, hence earlier: clocks are assumed to run at the same rate.
ExpireAtInitiator(g) ==
  /\ alive /\ g \in Old("i") /\ heard
  /\ g \notin Old("r")
  /\ receive' = [receive EXCEPT !["i"] = @ \ {g}]
  /\ UNCHANGED <<cells, send, counter, opened, doubles, rekeying, next, heard, alive>>

\* What was asked was never answered: the link is dead.
GiveUp ==
  /\ alive /\ (rekeying # None \/ ~heard)
  /\ alive' = FALSE
  /\ UNCHANGED <<cells, send, receive, counter, opened, doubles, rekeying, next, heard>>

\* --- responder

\* Any cell under the agreed keys makes the responder switch before the cell's own content is looked at.
TakeAtResponder(c) ==
  LET promoted == c.g = next
      sending == IF promoted THEN next ELSE send["r"]
      pending == IF promoted THEN None ELSE next
      asks == c.b = "init" /\ c.to = sending + 1 /\ pending = None /\ c.to \notin receive["r"]
  IN
  /\ alive
  /\ c.d = "i" /\ c.g \in receive["r"]
  /\ <<c.g, c.n>> \notin opened["r"]
  /\ doubles' = (doubles \/ <<c.g, c.n>> \in opened["r"])
  /\ opened' = [opened EXCEPT !["r"] = @ \cup {<<c.g, c.n>>}]
  /\ send' = [send EXCEPT !["r"] = sending]
  /\ counter' = [counter EXCEPT !["r"] = IF promoted THEN 0 ELSE @]
  /\ next' = IF asks THEN c.to ELSE pending
  /\ receive' = IF asks THEN [receive EXCEPT !["r"] = @ \cup {c.to}] ELSE receive
  /\ UNCHANGED <<cells, rekeying, heard, alive>>

SendResponse ==
  /\ next # None
  /\ Emit("r", "response", next)
  /\ UNCHANGED <<send, receive, opened, doubles, rekeying, next, heard, alive>>

SendPong ==
  /\ Emit("r", "pong", None)
  /\ UNCHANGED <<send, receive, opened, doubles, rekeying, next, heard, alive>>

ExpireAtResponder(g) ==
  /\ alive /\ g \in Old("r")
  /\ receive' = [receive EXCEPT !["r"] = @ \ {g}]
  /\ UNCHANGED <<cells, send, counter, opened, doubles, rekeying, next, heard, alive>>

Next ==
  \/ StartRekey \/ SendInit \/ SendPing \/ SendResponse \/ SendPong \/ GiveUp
  \/ \E c \in cells : TakeAtInitiator(c) \/ TakeAtResponder(c)
  \/ \E g \in Generations : ExpireAtInitiator(g) \/ ExpireAtResponder(g)

Fairness == WF_vars(GiveUp)

Spec == Init /\ [][Next]_vars /\ Fairness

\* --- properties

\* No two cells of one side have the same key and counter: no nonce is used twice.
NoncesUnique == \A c, e \in cells : (c.d = e.d /\ c.g = e.g /\ c.n = e.n) => c = e

OpenedOnce == ~doubles

\* Whatever either side sends now, the other can open: no moment of a rekey leaves them without common keys.
AlwaysOpenable == alive => (send["i"] \in receive["r"] /\ send["r"] \in receive["i"])

\* The responder uses keys only when the initiator has shown that it has them.
SwitchIsProved == send["r"] <= send["i"]

SlotsBounded == \A s \in Sides : Cardinality(receive[s]) <= MaxSlots

RekeyEnds == (rekeying # None) ~> (rekeying = None \/ ~alive)
=============================================================================
