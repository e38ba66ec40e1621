------------------------------- MODULE MixBatch -------------------------------
(* One batch of class cmix as built (docs/protocol.md §7.1; core/engine/engine-batches.ts, batch-ledger.ts,              *)
(* core/mix/batch-queue.ts, batch-work.ts, batch-evidence.ts). Neighbour "u" gives cells to the mix, neighbour "w" takes   *)
(* cells from it; u is the client of its cells' circuits, which knows what they become. The mix signs a receipt for u's     *)
(* cells, fixes both sides of the batch and an opening of it (a leaf for each cell on either side), computes the delay, lets *)
(* the cells go, and gives the opening, a signed statement and a proof to each neighbour. A lying mix leaves out, exchanges  *)
(* and adds cells, sends them early or again, signs what it likes, to each neighbour another statement, or nothing. Links     *)
(* lose cells; what is signed arrives (control channel). A neighbour may lie too: it shows what an honest mix has signed as   *)
(* evidence of what it has not done.                                                                                        *)
(*                                                                                                                          *)
(* WHAT REMAINS UNSEEN is written down as properties that do NOT hold (at the end, checked to fail): a cell that is dropped   *)
(* without a receipt, or behind the opening, looks as if the link had lost it; one of the mix's own can be added on both      *)
(* sides; cells can leave before the delay is over; neighbours that have no link with each other can be told different       *)
(* things. Outside of the model: neighbours that work with the mix, mixes without a name in the view when the link came up   *)
(* (their evidence counts, their silence does not), how many cells a batch has and may have, audits of mixes further on       *)
(* (which compare what u compares), mixes that do not pledge their circuits (which end then), that evidence of an exchange    *)
(* comes when the circuit has ended, and time.                                                                              *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Cells,          \* cells that u has for the mix
  Onward,         \* those of them that go on to w; the circuits of the others end at the mix
  Own,            \* cells that the mix can make up for w
  LiesTo,         \* subset of {"u", "w"}: whom a lying mix lies to; {} = it is honest
  Linked          \* subset of BOOLEAN: whether u and w have a link

ASSUME Onward \subseteq Cells /\ Cells \cap Own = {}
Leaving == Onward \cup Own

VARIABLES
  honest,         \* the mix keeps to the rules
  linked,         \* u and w have a link, and tell each other which statements they have heard
  phase,          \* of the mix: "open", "closed", "delayed", "told"
  taken,          \* cells that reached the mix
  receipt,        \* what the mix has signed for u when the batch closed; {} = nothing
  in, out,        \* the sets in the accumulators of u's and of w's statement
  shown,          \* leaves of the opening: those of cells that went in as u is told, of those that came out as u and as w is told
  split,          \* u's and w's statements differ
  computed,       \* the delay in them was computed
  proof,          \* per neighbour: the list of the proof that was signed, {} = none
  sent,           \* cells that went to w
  early,          \* one of them before the delay was over
  seen,           \* cells that w's circuits have opened: their replay windows
  twice,          \* w took one twice
  given,          \* per cell of u's: "no", "given", "receipted", "proved", "lost", "withheld"
  got,            \* per cell for w: "no", "got", "ahead" (the proof came first), "proved", "unproved"
  judged,         \* neighbours that have judged the proof that was signed for them
  holds,          \* those for whom it held
  evidence,       \* kinds of which somebody has shown evidence
  suspicion       \* what is held against the mix without evidence, by name

vars == <<honest, linked, phase, taken, receipt, in, out, shown, split, computed, proof, sent, early, seen, twice,
          given, got, judged, holds, evidence, suspicion>>
mix == <<honest, linked, phase, taken, receipt, in, out, shown, split, computed, proof, sent, early>>
neighbours == <<seen, twice, given, got, judged, holds, evidence, suspicion>>

TypeOK ==
  /\ phase \in {"open", "closed", "delayed", "told"}
  /\ \A c \in Cells : given[c] \in {"no", "given", "receipted", "proved", "lost", "withheld"}
  /\ \A c \in Leaving : got[c] \in {"no", "got", "ahead", "proved", "unproved"}
  /\ evidence \subseteq {"equivocation", "delay", "membership", "receipt", "opening", "exchange"}
  /\ suspicion \subseteq {"withheld", "unproved"}

Init ==
  /\ honest \in {TRUE, LiesTo = {}} /\ linked \in Linked
  /\ phase = "open" /\ taken = {} /\ receipt = {} /\ in = {} /\ out = {} /\ split = FALSE
  /\ shown = [in |-> {}, u |-> {}, w |-> {}] /\ computed = FALSE
  /\ proof = [n \in {"u", "w"} |-> {}] /\ sent = {} /\ early = FALSE /\ seen = {} /\ twice = FALSE
  /\ given = [c \in Cells |-> "no"] /\ got = [c \in Leaving |-> "no"]
  /\ judged = {} /\ holds = {} /\ evidence = {} /\ suspicion = {}

\* --- the mix

\* u gives a cell; the link may lose it.
Give(c) ==
  /\ phase = "open" /\ given[c] = "no"
  /\ given' = [given EXCEPT ![c] = "given"]
  /\ taken' \in {taken, taken \cup {c}}
  /\ UNCHANGED <<honest, linked, phase, receipt, in, out, shown, split, computed, proof, sent, early>>
  /\ UNCHANGED <<seen, twice, got, judged, holds, evidence, suspicion>>

\* Who has the same statement has the same opening. A mix that lies to w alone opens what went in.
Openings(s) ==
  IF honest THEN {[in |-> taken, u |-> taken \cap Onward, w |-> taken \cap Onward]}
  ELSE {[in |-> a, u |-> b, w |-> IF s THEN d ELSE b] :
         a \in IF "u" \in LiesTo THEN SUBSET Cells ELSE {taken}, b \in SUBSET Leaving, d \in IF s THEN SUBSET Leaving ELSE {{}}}

\* Both sides are fixed before the delay begins. Cells can only be passed on by who has them.
Close(r, i, o, l, s) ==
  /\ phase = "open" /\ taken # {}
  /\ r \subseteq taken /\ i \subseteq taken /\ o \subseteq (taken \cap Onward) \cup Own
  /\ (honest \/ "u" \notin LiesTo) => (r = taken /\ i = taken)
  /\ (honest \/ "w" \notin LiesTo) => o = taken \cap Onward
  /\ s => (~honest /\ o # {})
  /\ phase' = "closed"
  /\ receipt' = r /\ in' = i /\ out' = o /\ shown' = l /\ split' = s
  /\ UNCHANGED <<honest, linked, taken, computed, proof, sent, early, neighbours>>

Compute ==
  /\ phase = "closed"
  /\ phase' = "delayed"
  /\ computed' \in IF honest THEN {TRUE} ELSE BOOLEAN
  /\ UNCHANGED <<honest, linked, taken, receipt, in, out, shown, split, proof, sent, early, neighbours>>

\* A cell goes to w, for the first time or again; the link may lose it (a lying mix may as well not send it). w's circuit
\* opens it once.
Send(c) ==
  /\ IF honest THEN phase \in {"delayed", "told"} /\ c \in out
               ELSE phase # "open" /\ c \in (taken \cap Onward) \cup Own
  /\ sent' = sent \cup {c}
  /\ early' = (early \/ phase = "closed")
  /\ \/ honest /\ UNCHANGED neighbours
     \/ /\ c \notin seen
        /\ seen' = seen \cup {c}
        /\ twice' = (twice \/ c \in seen)
        /\ got' = [got EXCEPT ![c] = IF @ = "ahead" THEN "proved" ELSE "got"]
        /\ UNCHANGED <<given, judged, holds, evidence, suspicion>>
  /\ UNCHANGED <<honest, linked, phase, taken, receipt, in, out, shown, split, computed, proof>>

Prove(lu, lw) ==
  /\ phase = "delayed"
  /\ lu \subseteq Cells /\ lw \subseteq Leaving
  /\ (honest \/ "u" \notin LiesTo) => lu = in
  /\ (honest \/ "w" \notin LiesTo) => lw = out
  /\ phase' = "told"
  /\ proof' = [u |-> lu, w |-> lw]
  /\ UNCHANGED <<honest, linked, taken, receipt, in, out, shown, split, computed, sent, early, neighbours>>

\* --- the neighbours

TakeReceipt ==
  /\ phase # "open" /\ "u" \notin judged
  /\ \E c \in receipt : given[c] = "given"
  /\ given' = [c \in Cells |-> IF c \in receipt /\ given[c] = "given" THEN "receipted" ELSE given[c]]
  /\ UNCHANGED <<mix, seen, twice, got, judged, holds, evidence, suspicion>>

\* What is wrong with a proof, in the order of batch-work.ts; the first thing is shown. Receipt and opening come before it.
Fault(n) ==
  IF ~computed THEN {"delay"}
  ELSE IF ~(proof[n] \subseteq IF n = "u" THEN in ELSE out) THEN {"membership"}
  ELSE IF n = "u" /\ ~(receipt \subseteq proof[n]) THEN {"receipt"}
  ELSE IF ~(proof[n] \subseteq IF n = "u" THEN shown.in ELSE shown.w) THEN {"opening"}
  ELSE {}

\* Cells of u's that are proved to have gone in, and did not come out as what they have to become: u shows the cell and its
\* layer's keys, which the mix has pledged.
Exchanged == {c \in proof["u"] \cap Onward : given[c] \in {"given", "receipted"} /\ c \notin shown.u}

JudgeProof(n) ==
  /\ phase = "told" /\ proof[n] # {} /\ n \notin judged
  /\ n = "u" => \A c \in receipt : given[c] # "given"
  /\ judged' = judged \cup {n}
  /\ evidence' = evidence \cup IF Fault(n) = {} /\ n = "u" /\ Exchanged # {} THEN {"exchange"} ELSE Fault(n)
  /\ IF Fault(n) # {} THEN UNCHANGED <<holds, given, got>>
     ELSE /\ holds' = holds \cup {n}
          /\ given' = IF n = "w" THEN given
                      ELSE [c \in Cells |-> IF c \in proof[n] /\ given[c] \in {"given", "receipted"} THEN "proved" ELSE given[c]]
          /\ got' = IF n = "u" THEN got
                    ELSE [c \in Leaving |-> IF c \in proof[n] /\ got[c] = "got" THEN "proved"
                                            ELSE IF c \in proof[n] /\ got[c] = "no" THEN "ahead" ELSE got[c]]
  /\ UNCHANGED <<mix, seen, twice, suspicion>>

\* "heard", answered by the other statement: whoever has both can show them.
Compare ==
  /\ linked /\ split /\ holds = {"u", "w"} /\ "equivocation" \notin evidence
  /\ evidence' = evidence \cup {"equivocation"}
  /\ UNCHANGED <<mix, seen, twice, given, got, judged, holds, suspicion>>

\* A minute later: assumed to be enough for an honest mix. What was given or got and never proved is counted.
SettleGiven ==
  /\ \E c \in Cells : given[c] \in {"given", "receipted"}
  /\ (honest /\ taken # {}) => "u" \in judged
  /\ ~honest => (proof["u"] = {} \/ "u" \in judged)
  /\ receipt = {} \/ \A c \in receipt : given[c] # "given"
  /\ given' = [c \in Cells |-> IF given[c] = "given" THEN "lost" ELSE IF given[c] = "receipted" THEN "withheld" ELSE given[c]]
  /\ suspicion' = suspicion \cup IF \E c \in Cells : given[c] = "receipted" THEN {"withheld"} ELSE {}
  /\ UNCHANGED <<mix, seen, twice, got, judged, holds, evidence>>

SettleGot ==
  /\ \E c \in Leaving : got[c] = "got"
  /\ honest => "w" \in judged
  /\ got' = [c \in Leaving |-> IF got[c] = "got" THEN "unproved" ELSE got[c]]
  /\ suspicion' = suspicion \cup {"unproved"}
  /\ UNCHANGED <<mix, seen, twice, given, judged, holds, evidence>>

\* A neighbour shows what the mix has signed in this batch and the one before as evidence. Who hears it checks it.
Statements == {[number |-> 0, is |-> "other"]} \cup IF phase = "told" THEN {[number |-> 1, is |-> "one"]} ELSE {}
Receipts == {[number |-> 0, tag |-> "before", cells |-> {0}]}
            \cup IF receipt # {} THEN {[number |-> 1, tag |-> "u", cells |-> receipt]} ELSE {}
Proofs == {[number |-> 1, tag |-> n, cells |-> proof[n]] : n \in {m \in {"u", "w"} : proof[m] # {}}}
Differ(a, b) == a.number = b.number /\ a.is # b.is
\* Every cell is one of a circuit of its own here, and u is the client of all: it may show a cell as one of any of them. What a
\* cell is called in a batch says on which circuit it came.
Names(c, circuit) == c = circuit
Breaks(r, p) == r.number = p.number /\ r.tag = p.tag /\ ~(r.cells \subseteq p.cells)
Frame ==
  /\ honest
  /\ \/ /\ \E a, b \in Statements : Differ(a, b)
        /\ evidence' = evidence \cup {"equivocation"}
     \/ /\ \E r \in Receipts, p \in Proofs : Breaks(r, p)
        /\ evidence' = evidence \cup {"receipt"}
     \/ /\ phase = "told" /\ \E c \in in, circuit \in Onward : Names(c, circuit) /\ circuit \notin shown.u
        /\ evidence' = evidence \cup {"exchange"}
  /\ UNCHANGED <<mix, seen, twice, given, got, judged, holds, suspicion>>

Next ==
  \/ \E c \in Cells : Give(c)
  \/ \E r, i \in SUBSET Cells, o \in SUBSET Leaving, s \in BOOLEAN : \E l \in Openings(s) : Close(r, i, o, l, s)
  \/ Compute
  \/ \E c \in Leaving : Send(c)
  \/ \E lu \in SUBSET Cells, lw \in SUBSET Leaving : Prove(lu, lw)
  \/ TakeReceipt \/ Compare \/ SettleGiven \/ SettleGot \/ Frame
  \/ \E n \in {"u", "w"} : JudgeProof(n)

\* A batch closes in time and an honest mix goes through with it; minutes pass.
Fairness ==
  /\ WF_vars(honest /\ \E r, i \in SUBSET Cells, o \in SUBSET Leaving : \E l \in Openings(FALSE) : Close(r, i, o, l, FALSE))
  /\ WF_vars(honest /\ Compute)
  /\ WF_vars(honest /\ \E lu \in SUBSET Cells, lw \in SUBSET Leaving : Prove(lu, lw))
  /\ \A c \in Leaving : WF_vars(honest /\ c \notin sent /\ Send(c))
  /\ \A n \in {"u", "w"} : WF_vars(JudgeProof(n))
  /\ WF_vars(TakeReceipt) /\ WF_vars(Compare) /\ WF_vars(SettleGiven) /\ WF_vars(SettleGot)

Spec == Init /\ [][Next]_vars /\ Fairness

\* --- properties

Seen == evidence # {} \/ suspicion # {}

\* An honest mix is neither suspected nor accused, whatever links lose and neighbours say.
HonestIsNotAccused == honest => ~Seen
\* What counts as proved is in the batch, and the batch was delayed.
ProvedIsInBatch ==
  /\ \A c \in Cells : given[c] = "proved" => c \in in
  /\ \A c \in Leaving : got[c] = "proved" => c \in out
\* It is in what was opened, so it was counted.
ProvedIsOpened ==
  /\ \A c \in Cells : given[c] = "proved" => c \in shown.in
  /\ \A c \in Leaving : got[c] = "proved" => c \in shown.w
\* Of a cell that went in and did not come out its client has evidence.
ExchangeIsShown == \A c \in Onward : given[c] = "proved" => (c \in shown.u \/ "exchange" \in evidence)
ProvedWasDelayed == (\E c \in Cells : given[c] = "proved") \/ (\E c \in Leaving : got[c] = "proved") => computed
\* A proof that leaves out a cell with a receipt is evidence.
BrokenReceiptIsShown == "u" \in holds => receipt \subseteq proof["u"]
TakenOnce == ~twice
NothingEarly == honest => ~early

ReceiptIsKept == \A c \in Cells : (given[c] = "receipted") ~> (given[c] = "proved" \/ Seen)
GivenIsCounted == \A c \in Cells : (given[c] = "given" /\ phase # "open") ~> (given[c] \in {"proved", "lost", "withheld"})
TakenIsProved == \A c \in Leaving : (got[c] = "got") ~> (got[c] = "proved" \/ Seen)
SplitIsShown == (linked /\ split /\ holds = {"u", "w"}) ~> ("equivocation" \in evidence)
HonestBatchLeaves == (honest /\ phase = "closed") ~> (phase = "told" /\ out \subseteq sent)

\* --- what is not seen: these do not hold

Over == /\ phase = "told"
        /\ \A c \in Cells : given[c] \notin {"given", "receipted"}
        /\ \A c \in Leaving : got[c] # "got"
        /\ \A n \in {"u", "w"} : proof[n] = {} \/ n \in judged

\* "lost" is what the neighbour counts when the link has dropped a cell; the mix may have.
DropIsSeen == Over => (Seen \/ \A c \in taken : given[c] # "lost")
\* It is in the opening, and never came: again as if the link had lost it.
OpenedIsSent == Over => (Seen \/ \A c \in Onward : given[c] = "proved" => c \in sent)
AdditionIsSeen == Over => (Seen \/ sent \cap Own = {})
HasteIsSeen == Over => (Seen \/ ~early)
EverySplitIsSeen == (Over /\ split /\ holds = {"u", "w"}) => Seen
=============================================================================
