-------------------------------- MODULE Stream --------------------------------
(* One direction of a stream and its end, docs/protocol.md §5 (core/stream/session.ts, send-buffer.ts,                  *)
(* receive-buffer.ts): bytes, FIN, flow control, loss and repetition, RESET, the session's end. Bytes are numbered from  *)
(* 0. A frame is one byte, a FIN, a RESET or a new limit, each in a packet of its own; the network loses, doubles and     *)
(* reorders packets. Loss is found, and what was lost is sent again; at most MaxLosses packets are lost, unless the       *)
(* session ends.                                                                                                        *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Size,           \* bytes the writer writes
  Window,         \* receive window
  MaxLosses

Bytes == 0..(Size - 1)

VARIABLES
  written,        \* bytes given to write()
  next,           \* first byte never sent
  acked,          \* bytes acknowledged
  lost,           \* bytes to send again
  fin,            \* the FIN: "no", "pending", "sent", "acked"
  reset,          \* the sender's RESET: "no", "pending", "sent", "acked"
  limit,          \* what the sender may send
  granted,        \* what the receiver has let it send
  grant,          \* the last limit's frame: "none", "pending", "sent"
  arrived,        \* bytes that have arrived
  read,           \* bytes that were read: all below
  order,          \* bytes came out of read() in order, each once
  final,          \* final size as the receiver knows it, Size + 1 = not known
  finalMoved,     \* it was told two final sizes
  gone,           \* the receiver has taken the RESET
  net,            \* packets: [k: kind, v: value]
  losses,
  ended,          \* the session is over; both sides are told that the stream failed
  owner           \* what the one who opened the stream (and writes here) was told: "opening", "open", "closed"

vars == <<written, next, acked, lost, fin, reset, limit, granted, grant, arrived, read, order, final, finalMoved, gone,
          net, losses, ended, owner>>

sender == <<written, next, acked, lost, fin, reset, limit>>
receiver == <<granted, grant, arrived, read, order, final, finalMoved, gone>>
Unknown == Size + 1

TypeOK ==
  /\ written \in 0..Size /\ next \in 0..Size /\ acked \subseteq Bytes /\ lost \subseteq Bytes
  /\ fin \in {"no", "pending", "sent", "acked"} /\ reset \in {"no", "pending", "sent", "acked"}

Init ==
  /\ written = 0 /\ next = 0 /\ acked = {} /\ lost = {} /\ fin = "no" /\ reset = "no"
  /\ limit = Window /\ granted = Window /\ grant = "none"
  /\ arrived = {} /\ read = 0 /\ order = TRUE /\ final = Unknown /\ finalMoved = FALSE /\ gone = FALSE
  /\ net = {} /\ losses = 0 /\ ended = FALSE /\ owner = "opening"

Packet(k, v) == [k |-> k, v |-> v]
Put(k, v) == net' = net \cup {Packet(k, v)}

\* --- sender

Write ==
  /\ ~ended /\ reset = "no" /\ fin = "no" /\ written < Size
  /\ written' = written + 1
  /\ UNCHANGED <<next, acked, lost, fin, reset, limit, receiver, net, losses, ended, owner>>

Finish ==
  /\ ~ended /\ reset = "no" /\ fin = "no"
  /\ fin' = "pending"
  /\ UNCHANGED <<written, next, acked, lost, reset, limit, receiver, net, losses, ended, owner>>

SendFresh ==
  /\ ~ended /\ reset = "no" /\ next < written /\ next < limit
  /\ Put("byte", next)
  /\ next' = next + 1
  /\ UNCHANGED <<written, acked, lost, fin, reset, limit, receiver, losses, ended, owner>>

SendLost ==
  /\ ~ended /\ reset = "no" /\ lost # {}
  /\ \E b \in lost : Put("byte", b) /\ lost' = lost \ {b}
  /\ UNCHANGED <<written, next, acked, fin, reset, limit, receiver, losses, ended, owner>>

\* Behind the last byte, which takes no credit.
SendFin ==
  /\ ~ended /\ reset = "no" /\ fin = "pending" /\ next = written
  /\ Put("fin", written)
  /\ fin' = "sent"
  /\ UNCHANGED <<written, next, acked, lost, reset, limit, receiver, losses, ended, owner>>

\* Abandons the stream: nothing of it is sent any more but where it ends.
Abandon ==
  /\ ~ended /\ reset = "no" /\ ~(fin = "acked" /\ acked = 0..(written - 1))
  /\ reset' = "pending" /\ lost' = {}
  /\ owner' = "closed"
  /\ UNCHANGED <<written, next, acked, fin, limit, receiver, net, losses, ended>>

SendReset ==
  /\ ~ended /\ reset = "pending"
  /\ Put("reset", next)
  /\ reset' = "sent"
  /\ UNCHANGED <<written, next, acked, lost, fin, limit, receiver, losses, ended, owner>>

\* --- receiver; its ACK of a packet reaches the sender with it (a lost ACK is a repetition more, as in TakeAgain)

TakeByte(p) ==
  /\ ~ended /\ p.k = "byte"
  /\ p.v < granted
  /\ arrived' = IF gone THEN arrived ELSE arrived \cup {p.v}
  /\ acked' = IF reset = "no" THEN acked \cup {p.v} ELSE acked
  /\ lost' = lost \ {p.v}
  /\ net' = net \ {p}
  /\ UNCHANGED <<written, next, fin, reset, limit, granted, grant, read, order, final, finalMoved, gone, losses, ended, owner>>

TakeFin(p) ==
  /\ ~ended /\ p.k = "fin"
  /\ final' = p.v
  /\ finalMoved' = (finalMoved \/ (final # Unknown /\ final # p.v))
  /\ fin' = IF reset = "no" THEN "acked" ELSE fin
  /\ net' = net \ {p}
  /\ UNCHANGED <<written, next, acked, lost, reset, limit, granted, grant, arrived, read, order, gone, losses, ended, owner>>

TakeReset(p) ==
  /\ ~ended /\ p.k = "reset"
  /\ gone' = TRUE
  /\ final' = p.v
  /\ finalMoved' = (finalMoved \/ (final # Unknown /\ final # p.v))
  /\ reset' = "acked"
  /\ net' = net \ {p}
  /\ UNCHANGED <<written, next, acked, lost, fin, limit, granted, grant, arrived, read, order, losses, ended, owner>>

\* The application reads what is there without a gap, and that opens the window.
Read ==
  /\ ~ended /\ ~gone /\ read \in arrived
  /\ read' = read + 1
  /\ order' = (order /\ read \in arrived)
  /\ grant' = IF final = Unknown THEN "pending" ELSE grant
  /\ UNCHANGED <<sender, granted, arrived, final, finalMoved, gone, net, losses, ended, owner>>

SendLimit ==
  /\ ~ended /\ grant = "pending"
  /\ granted' = read + Window
  /\ grant' = "sent"
  /\ Put("limit", read + Window)
  /\ UNCHANGED <<sender, arrived, read, order, final, finalMoved, gone, losses, ended, owner>>

\* Limits only rise, whatever order their frames come in.
TakeLimit(p) ==
  /\ ~ended /\ p.k = "limit"
  /\ limit' = IF p.v > limit THEN p.v ELSE limit
  /\ net' = net \ {p}
  /\ UNCHANGED <<written, next, acked, lost, fin, reset, receiver, losses, ended, owner>>

\* --- the network

\* A packet that arrives is there once more.
TakeAgain(p) ==
  /\ ~ended /\ p.k = "byte" /\ p.v < granted /\ p.v \notin arrived
  /\ arrived' = IF gone THEN arrived ELSE arrived \cup {p.v}
  /\ UNCHANGED <<sender, granted, grant, read, order, final, finalMoved, gone, net, losses, ended, owner>>

\* A packet is lost, and by and by its sender knows.
Lose(p) ==
  /\ ~ended /\ losses < MaxLosses
  /\ losses' = losses + 1
  /\ net' = net \ {p}
  /\ lost' = IF p.k = "byte" /\ reset = "no" /\ p.v \notin acked THEN lost \cup {p.v} ELSE lost
  /\ fin' = IF p.k = "fin" /\ reset = "no" THEN "pending" ELSE fin
  /\ reset' = IF p.k = "reset" THEN "pending" ELSE reset
  /\ grant' = IF p.k = "limit" /\ p.v = granted /\ final = Unknown THEN "pending" ELSE grant
  /\ UNCHANGED <<written, next, acked, limit, granted, arrived, read, order, final, finalMoved, gone, ended, owner>>

\* The circuit is gone, or nobody has been heard of for the idle time-out.
SessionEnds ==
  /\ ~ended
  /\ ended' = TRUE /\ net' = {}
  /\ owner' = "closed"
  /\ UNCHANGED <<sender, receiver, losses>>

\* The target was reached: CONNECTED has come.
Connected ==
  /\ ~ended /\ owner = "opening"
  /\ owner' = "open"
  /\ UNCHANGED <<sender, receiver, net, losses, ended>>

\* Everything is there, and the other direction is over as well.
Done ==
  /\ ~ended /\ owner # "closed" /\ fin = "acked" /\ acked = 0..(written - 1)
  /\ owner' = "closed"
  /\ UNCHANGED <<sender, receiver, net, losses, ended>>

Next ==
  \/ Write \/ Finish \/ SendFresh \/ SendLost \/ SendFin \/ Abandon \/ SendReset
  \/ Read \/ SendLimit \/ SessionEnds \/ Connected \/ Done
  \/ \E p \in net : TakeByte(p) \/ TakeFin(p) \/ TakeReset(p) \/ TakeLimit(p) \/ TakeAgain(p) \/ Lose(p)

Fairness ==
  /\ WF_vars(SendFresh) /\ WF_vars(SendLost) /\ WF_vars(SendFin) /\ WF_vars(SendReset) /\ WF_vars(SendLimit)
  /\ WF_vars(Read) /\ WF_vars(Done)
  /\ WF_vars(\E p \in net : TakeByte(p) \/ TakeFin(p) \/ TakeReset(p) \/ TakeLimit(p))

Spec == Init /\ [][Next]_vars /\ Fairness

\* --- properties

\* What the receiver holds unread never exceeds its window.
WindowBounded == granted <= read + Window /\ \A b \in arrived : b < granted
\* The sender keeps to what it was granted, also when limits overtake each other.
LimitRespected == limit <= granted /\ next <= limit
\* Bytes come out in order, each once, and none beyond the end.
InOrderOnce == order /\ (\A b \in 0..(read - 1) : b \in arrived) /\ read <= final
FinalSizeStable == ~finalMoved
NothingUnwritten == \A b \in arrived : b < written

\* Every byte that was written is read, or the stream fails.
WrittenIsDelivered == \A b \in Bytes : (written > b) ~> (read > b \/ reset # "no" \/ ended)
\* A stream that was finished ends on both sides, or fails.
FinishIsSeen == (fin # "no") ~> ((final = written /\ read = written) \/ reset # "no" \/ ended)
\* An abandoned stream is gone at the receiver too.
AbandonIsSeen == (reset # "no") ~> (gone \/ ended)
\* Who opened a stream is told how it ended.
EndIsTold == ended => owner = "closed"
ClosedIsOver == owner = "closed" => (ended \/ reset # "no" \/ (fin = "acked" /\ acked = 0..(written - 1)))
=============================================================================
