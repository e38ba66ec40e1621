------------------------------- MODULE Circuit -------------------------------
(* One circuit client - relay - last hop, docs/protocol.md §2.3, §3.1, §4 (core/engine/client-circuit.ts,               *)
(* relay-circuit.ts, last-hop-circuit.ts): set-up, data right behind the train (0-RTT), the reply's fresh keys, refusal,  *)
(* teardown from either end, lost links, expiry. Control messages travel on reliable ordered channels that end with their *)
(* link; cells are unreliable: they may be lost, doubled, delayed, reordered and altered.                                *)
(*                                                                                                                      *)
(* Whether a tag verifies and what a train says are symbolic. The relay may be corrupt: it alters cells and plays them     *)
(* again.                                                                                                               *)
EXTENDS Naturals, FiniteSets, Sequences

CONSTANTS
  MaxCells,       \* indices that each end uses
  MaxHeld         \* cells a relay holds while its next link comes up

VARIABLES
  client,         \* "idle", "building", "ready", "ended"
  relay,          \* "none", "open", "ended"
  exit,           \* "none", "open", "ended"
  next,           \* what the train tells the relay: "exit", or (a hostile client's) "relay" or "client"
  link1, link2,   \* "opening", "up", "dead"; link2 is "none" before the relay needs it
  toRelay, toClient, toExit, fromExit,   \* control channels: sequences of messages
  cells1, cells2, back1, back2,          \* cells on their way: [n: index, ch: chain, ok: unaltered]
  held,           \* cells at the relay that wait for link2
  trainAhead,     \* no cell was put on link2 before the train
  sentC, sentE,   \* next index of either end
  seenE, seenC,   \* indices that were delivered
  double,         \* an index was delivered twice
  bad,            \* an altered cell was delivered
  fwdC, backE,    \* chain under which client and last hop send: "old", "new"
  fwdE, backC,    \* chains they accept
  told            \* the client's user was told how it ended

vars == <<client, relay, exit, next, link1, link2, toRelay, toClient, toExit, fromExit, cells1, cells2, back1, back2,
          held, trainAhead, sentC, sentE, seenE, seenC, double, bad, fwdC, backE, fwdE, backC, told>>

ends == <<client, relay, exit>>
channels == <<toRelay, toClient, toExit, fromExit>>
cells == <<cells1, cells2, back1, back2>>
links == <<link1, link2>>
keys == <<fwdC, backE, fwdE, backC>>
counts == <<sentC, sentE, seenE, seenC, double, bad>>

TypeOK ==
  /\ client \in {"idle", "building", "ready", "ended"}
  /\ relay \in {"none", "open", "ended"} /\ exit \in {"none", "open", "ended"}

Init ==
  /\ client = "idle" /\ relay = "none" /\ exit = "none"
  /\ next \in {"exit", "relay", "client"}
  /\ link1 = "opening" /\ link2 = "none"
  /\ toRelay = <<>> /\ toClient = <<>> /\ toExit = <<>> /\ fromExit = <<>>
  /\ cells1 = {} /\ cells2 = {} /\ back1 = {} /\ back2 = {} /\ held = {} /\ trainAhead = TRUE
  /\ sentC = 0 /\ sentE = 0 /\ seenE = {} /\ seenC = {} /\ double = FALSE /\ bad = FALSE
  /\ fwdC = "old" /\ backE = "old" /\ fwdE = {"old"} /\ backC = {"old"}
  /\ told = FALSE

\* --- links

LinkUp1 == link1 = "opening" /\ link1' = "up" /\ UNCHANGED <<ends, next, link2, channels, cells, held, trainAhead, counts, keys, told>>
LinkUp2 == link2 = "opening" /\ link2' = "up" /\ UNCHANGED <<ends, next, link1, channels, cells, held, trainAhead, counts, keys, told>>

\* With a link go its channels and all circuits over it. Ends it once: nobody waits for a dead link.
LoseLink1 ==
  /\ link1 # "dead" /\ link1' = "dead"
  /\ toRelay' = <<>> /\ toClient' = <<>> /\ cells1' = {} /\ back1' = {}
  /\ client' = IF client \in {"building", "ready"} THEN "ended" ELSE client
  /\ told' = (told \/ client \in {"building", "ready"})
  /\ relay' = IF relay = "open" THEN "ended" ELSE relay
  /\ toExit' = IF relay = "open" /\ link2 \in {"opening", "up"} THEN Append(toExit, "DESTROY") ELSE toExit
  /\ held' = {}
  /\ UNCHANGED <<exit, next, link2, fromExit, cells2, back2, trainAhead, counts, keys>>

LoseLink2 ==
  /\ link2 \in {"opening", "up"} /\ link2' = "dead"
  /\ toExit' = <<>> /\ fromExit' = <<>> /\ cells2' = {} /\ back2' = {}
  /\ relay' = IF relay = "open" THEN "ended" ELSE relay
  /\ toClient' = IF relay = "open" /\ link1 = "up" THEN Append(toClient, "REFUSED") ELSE toClient
  /\ exit' = IF exit = "open" THEN "ended" ELSE exit
  /\ held' = {}
  /\ UNCHANGED <<client, next, link1, toRelay, cells1, back1, trainAhead, counts, keys, told>>

\* --- client

Build ==
  /\ client = "idle" /\ link1 # "dead"
  /\ client' = "building"
  /\ toRelay' = Append(toRelay, "SETUP")
  /\ UNCHANGED <<relay, exit, next, links, toClient, toExit, fromExit, cells, held, trainAhead, counts, keys, told>>

\* Data may follow the train at once.
ClientSends ==
  /\ client \in {"building", "ready"} /\ link1 = "up" /\ sentC < MaxCells
  /\ cells1' = cells1 \cup {[n |-> sentC, ch |-> fwdC, ok |-> TRUE]}
  /\ sentC' = sentC + 1
  /\ UNCHANGED <<ends, next, links, channels, cells2, back1, back2, held, trainAhead, sentE, seenE, seenC, double, bad, keys, told>>

\* The last hop's first cell is its reply; it switches the client's own chain and is accepted under the old one.
ClientTakes(c) ==
  /\ client \in {"building", "ready"} /\ c \in back1 /\ c.n \notin seenC
  /\ c.ok /\ c.ch \in backC
  /\ seenC' = seenC \cup {c.n}
  /\ double' = (double \/ c.n \in seenC) /\ bad' = (bad \/ ~c.ok)
  /\ IF c.n = 0
     THEN client' = "ready" /\ fwdC' = "new" /\ backC' = {"old", "new"}
     ELSE client' = client /\ fwdC' = fwdC /\ backC' = backC
  /\ UNCHANGED <<relay, exit, next, links, channels, cells, held, trainAhead, sentC, sentE, seenE, backE, fwdE, told>>

ClientTakesMessage ==
  /\ toClient # <<>>
  /\ toClient' = Tail(toClient)
  /\ client' = IF client \in {"building", "ready"} THEN "ended" ELSE client
  /\ told' = (told \/ client \in {"building", "ready"})
  /\ UNCHANGED <<relay, exit, next, links, toRelay, toExit, fromExit, cells, held, trainAhead, counts, keys>>

EndByClient ==
  /\ client' = "ended" /\ told' = TRUE
  /\ toRelay' = IF link1 = "dead" THEN toRelay ELSE Append(toRelay, "DESTROY")
  /\ UNCHANGED <<relay, exit, next, links, toClient, toExit, fromExit, cells, held, trainAhead, counts, keys>>

ClientCloses == client = "ready" /\ EndByClient
SetupTimeout == client = "building" /\ EndByClient

\* --- relay

RelayTakesSetup ==
  /\ toRelay # <<>> /\ Head(toRelay) = "SETUP" /\ link1 = "up"
  /\ toRelay' = Tail(toRelay)
  /\ IF next = "exit" /\ link2 # "dead"
     THEN /\ relay' = "open"
          /\ link2' = IF link2 = "none" THEN "opening" ELSE link2
          /\ toExit' = Append(toExit, "SETUP")
          /\ toClient' = toClient
     ELSE /\ toClient' = Append(toClient, "REFUSED")
          /\ UNCHANGED <<relay, link2, toExit>>
  /\ UNCHANGED <<client, exit, next, link1, fromExit, cells, held, trainAhead, counts, keys, told>>

RelayTakesDestroy ==
  /\ toRelay # <<>> /\ Head(toRelay) = "DESTROY" /\ link1 = "up"
  /\ toRelay' = Tail(toRelay)
  /\ relay' = IF relay = "open" THEN "ended" ELSE relay
  /\ toExit' = IF relay = "open" THEN Append(toExit, "DESTROY") ELSE toExit
  /\ held' = {}
  /\ UNCHANGED <<client, exit, next, links, toClient, fromExit, cells, trainAhead, counts, keys, told>>

RelayTakesFromExit ==
  /\ fromExit # <<>>
  /\ fromExit' = Tail(fromExit)
  /\ relay' = IF relay = "open" THEN "ended" ELSE relay
  /\ toClient' = IF relay = "open" /\ link1 = "up" THEN Append(toClient, Head(fromExit)) ELSE toClient
  /\ held' = {}
  /\ UNCHANGED <<client, exit, next, links, toRelay, toExit, cells, trainAhead, counts, keys, told>>

\* Cells wait for the link to come up and for the train to be ahead of them.
RelayForwards(c) ==
  /\ relay = "open" /\ c \in cells1
  /\ IF link2 = "up"
     THEN /\ cells2' = cells2 \cup {c} /\ held' = held
          /\ trainAhead' = (trainAhead /\ link2 = "up")
     ELSE /\ Cardinality(held) < MaxHeld
          /\ held' = held \cup {c} /\ UNCHANGED <<cells2, trainAhead>>
  /\ cells1' = cells1 \ {c}
  /\ UNCHANGED <<ends, next, links, channels, back1, back2, counts, keys, told>>

RelayReleases ==
  /\ relay = "open" /\ link2 = "up" /\ held # {}
  /\ cells2' = cells2 \cup held /\ held' = {}
  /\ UNCHANGED <<ends, next, links, channels, cells1, back1, back2, trainAhead, counts, keys, told>>

RelayBackward(c) ==
  /\ relay = "open" /\ c \in back2 /\ link1 = "up"
  /\ back1' = back1 \cup {c} /\ back2' = back2 \ {c}
  /\ UNCHANGED <<ends, next, links, channels, cells1, cells2, held, trainAhead, counts, keys, told>>

\* Nothing has come either way for long, or the circuit's time is over.
RelayExpires ==
  /\ relay = "open" /\ client # "building"
  /\ relay' = "ended" /\ held' = {}
  /\ toExit' = IF link2 \in {"opening", "up"} THEN Append(toExit, "DESTROY") ELSE toExit
  /\ toClient' = IF link1 = "up" THEN Append(toClient, "DESTROY") ELSE toClient
  /\ UNCHANGED <<client, exit, next, links, toRelay, fromExit, cells, trainAhead, counts, keys, told>>

\* --- last hop

ExitTakesSetup ==
  /\ toExit # <<>> /\ Head(toExit) = "SETUP" /\ link2 = "up"
  /\ toExit' = Tail(toExit)
  /\ \E accepts \in BOOLEAN :
       IF accepts
       THEN exit' = "open" /\ fwdE' = {"old", "new"} /\ fromExit' = fromExit
       ELSE exit' = exit /\ fwdE' = fwdE /\ fromExit' = Append(fromExit, "REFUSED")
  /\ UNCHANGED <<client, relay, next, links, toRelay, toClient, cells, held, trainAhead, counts, fwdC, backE, backC, told>>

ExitTakesDestroy ==
  /\ toExit # <<>> /\ Head(toExit) = "DESTROY" /\ link2 = "up"
  /\ toExit' = Tail(toExit)
  /\ exit' = IF exit = "open" THEN "ended" ELSE exit
  /\ UNCHANGED <<client, relay, next, links, toRelay, toClient, fromExit, cells, held, trainAhead, counts, keys, told>>

\* A cell under the new chain shows that the client has the reply: the last hop sends under the new one from here on.
ExitTakes(c) ==
  /\ exit = "open" /\ c \in cells2 /\ c.n \notin seenE
  /\ c.ok /\ c.ch \in fwdE
  /\ seenE' = seenE \cup {c.n}
  /\ double' = (double \/ c.n \in seenE) /\ bad' = (bad \/ ~c.ok)
  /\ backE' = IF c.ch = "new" THEN "new" ELSE backE
  /\ UNCHANGED <<ends, next, links, channels, cells, held, trainAhead, sentC, sentE, seenC, fwdC, fwdE, backC, told>>

ExitSends ==
  /\ exit = "open" /\ link2 = "up" /\ sentE < MaxCells
  /\ back2' = back2 \cup {[n |-> sentE, ch |-> backE, ok |-> TRUE]}
  /\ sentE' = sentE + 1
  /\ UNCHANGED <<ends, next, links, channels, cells1, cells2, back1, held, trainAhead, sentC, seenE, seenC, double, bad, keys, told>>

ExitEnds ==
  /\ exit = "open"
  /\ exit' = "ended"
  /\ fromExit' = IF link2 = "up" THEN Append(fromExit, "DESTROY") ELSE fromExit
  /\ UNCHANGED <<client, relay, next, links, toRelay, toClient, toExit, cells, held, trainAhead, counts, keys, told>>

\* --- adversary: a cell is lost, or a corrupt relay alters it. That a cell stays where it was taken from is its replay.

Lose ==
  /\ \E c \in cells1 \cup back1 : cells1' = cells1 \ {c} /\ back1' = back1 \ {c}
  /\ UNCHANGED <<ends, next, links, channels, cells2, back2, held, trainAhead, counts, keys, told>>

Alter ==
  /\ \E c \in cells2 : c.ok /\ cells2' = (cells2 \ {c}) \cup {[c EXCEPT !.ok = FALSE]}
  /\ UNCHANGED <<ends, next, links, channels, cells1, back1, back2, held, trainAhead, counts, keys, told>>

Next ==
  \/ LinkUp1 \/ LinkUp2 \/ LoseLink1 \/ LoseLink2
  \/ Build \/ ClientSends \/ ClientTakesMessage \/ ClientCloses \/ SetupTimeout
  \/ RelayTakesSetup \/ RelayTakesDestroy \/ RelayTakesFromExit \/ RelayReleases \/ RelayExpires
  \/ ExitTakesSetup \/ ExitTakesDestroy \/ ExitSends \/ ExitEnds
  \/ \E c \in cells1 : RelayForwards(c)
  \/ \E c \in back2 : RelayBackward(c)
  \/ \E c \in back1 : ClientTakes(c)
  \/ \E c \in cells2 : ExitTakes(c)
  \/ Lose \/ Alter

\* Links end up or dead; control messages on a live link arrive; timers fire.
Fairness ==
  /\ WF_vars(LinkUp1) /\ WF_vars(LinkUp2)
  /\ WF_vars(SetupTimeout) /\ WF_vars(ClientTakesMessage)
  /\ WF_vars(RelayTakesSetup) /\ WF_vars(RelayTakesDestroy) /\ WF_vars(RelayTakesFromExit)
  /\ WF_vars(ExitTakesSetup) /\ WF_vars(ExitTakesDestroy)
  /\ WF_vars(RelayExpires)

Spec == Init /\ [][Next]_vars /\ Fairness

\* --- properties

DeliveredOnce == ~double
NothingAlteredIsDelivered == ~bad
\* A train that leads back is not followed.
NoRecursion == next # "exit" => (relay = "none" /\ exit = "none" /\ link2 = "none")
TrainBeforeData == trainAhead
HoldingBounded == Cardinality(held) <= MaxHeld
EndedHoldsNothing == relay = "ended" => held = {}
\* Either end accepts what the other sends now.
ChainsAgree == (client = "ready" /\ exit = "open") => (fwdC \in fwdE /\ backE \in backC)
EndIsTold == client = "ended" => told

EverySetUpEnds == (client = "building") ~> (client \in {"ready", "ended"})
NoCircuitIsLeft == (client = "ended") ~> (relay # "open" /\ exit # "open")
=============================================================================
