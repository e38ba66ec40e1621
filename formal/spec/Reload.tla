------------------------------- MODULE Reload -------------------------------
(* Reload of the configuration (daemon/actors/config-reloader.ts, daemon/actors/pump-pool.ts, daemon/pump/live-tuning.ts):   *)
(* the operator writes the file and asks for reloads at any moment, also while one is under way; a version of the file is     *)
(* sound or not; the main thread takes a sound one into use in one turn and sends it to the workers that are up; workers      *)
(* crash at any moment, start with what is in force when they begin, and are sent what is newer when they are ready. What a   *)
(* worker goes by has two parts here (an exit policy and limits, say), so that half of a configuration could be seen.         *)
(* Versions of the file stand for generations: both only grow, and a refused version has no generation.                      *)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
  Workers,
  MaxVersion,     \* of the file; 1 is what the node began with
  Unsound,        \* versions with a mistake, or with something that needs a restart
  MaxCrashes

Versions == 1..MaxVersion

VARIABLES
  file,           \* the version on disk
  main,           \* the version in force
  phase,          \* "idle", "checking": a version was read and is looked at, "spreading": workers have not answered yet
  looked,         \* the version that was read last
  waiting,        \* somebody has asked for a reload that has not begun to read
  asked,          \* the version that was on disk when somebody asked last
  owed,           \* workers whose answer a reload waits for
  state,          \* per worker: "down", "starting", "up"
  parts,          \* per worker: the versions that its two parts go by; 0 = it is down
  inbox,          \* per worker: versions on their way to it
  had,            \* per worker: the newest version that it, or one before it in its place, went by
  crashes,
  spoiled         \* a refusal has changed something

vars == <<file, main, phase, looked, waiting, asked, owed, state, parts, inbox, had, crashes, spoiled>>

TypeOK ==
  /\ file \in Versions /\ main \in Versions /\ looked \in Versions /\ asked \in Versions
  /\ phase \in {"idle", "checking", "spreading"} /\ owed \subseteq Workers
  /\ \A w \in Workers : state[w] \in {"down", "starting", "up"} /\ parts[w] \in (0..MaxVersion) \X (0..MaxVersion)

Init ==
  /\ file = 1 /\ main = 1 /\ phase = "idle" /\ looked = 1 /\ waiting = FALSE /\ asked = 1 /\ owed = {}
  /\ state = [w \in Workers |-> "down"]
  /\ parts = [w \in Workers |-> <<0, 0>>]
  /\ inbox = [w \in Workers |-> <<>>]
  /\ had = [w \in Workers |-> 0]
  /\ crashes = 0 /\ spoiled = FALSE

Larger(a, b) == IF a > b THEN a ELSE b

\* --- the operator

Edit ==
  /\ file < MaxVersion
  /\ file' = file + 1
  /\ UNCHANGED <<main, phase, looked, waiting, asked, owed, state, parts, inbox, had, crashes, spoiled>>

\* SIGHUP or a call. Whoever asks while another one waits is served by that.
Ask ==
  /\ ~waiting \/ asked # file
  /\ waiting' = TRUE
  /\ asked' = file
  /\ UNCHANGED <<file, main, phase, looked, owed, state, parts, inbox, had, crashes, spoiled>>

\* --- the main thread

Begin ==
  /\ phase = "idle" /\ waiting
  /\ phase' = "checking" /\ waiting' = FALSE
  /\ looked' = file
  /\ UNCHANGED <<file, main, asked, owed, state, parts, inbox, had, crashes, spoiled>>

\* Whether the file or what only a part of the node can look into is wrong: nothing has been changed by then.
Refuse ==
  /\ phase = "checking" /\ looked \in Unsound
  /\ phase' = "idle"
  /\ main' = main
  /\ parts' = parts
  /\ inbox' = inbox
  /\ spoiled' = (spoiled \/ <<main', parts', inbox'>> # <<main, parts, inbox>>)
  /\ UNCHANGED <<file, looked, waiting, asked, owed, state, had, crashes>>

\* The file says what is in force.
Keep ==
  /\ phase = "checking" /\ looked = main
  /\ phase' = "idle"
  /\ UNCHANGED <<file, main, looked, waiting, asked, owed, state, parts, inbox, had, crashes, spoiled>>

\* One turn: the main thread goes by it, and it is on its way to the workers that are up.
Accept ==
  /\ phase = "checking" /\ looked # main
  /\ looked \notin Unsound
  /\ phase' = "spreading"
  /\ main' = looked
  /\ owed' = {w \in Workers : state[w] = "up"}
  /\ inbox' = [w \in Workers |-> IF state[w] = "up" THEN Append(inbox[w], looked) ELSE inbox[w]]
  /\ UNCHANGED <<file, looked, waiting, asked, state, parts, had, crashes, spoiled>>

\* All have answered, or are gone. (One that does not answer in time is given up by the reload, not by the pool: left out here.)
Answered ==
  /\ phase = "spreading" /\ owed = {}
  /\ phase' = "idle"
  /\ UNCHANGED <<file, main, looked, waiting, asked, owed, state, parts, inbox, had, crashes, spoiled>>

\* --- workers

\* It begins with what is in force.
Start(w) ==
  /\ state[w] = "down"
  /\ state' = [state EXCEPT ![w] = "starting"]
  /\ parts' = [parts EXCEPT ![w] = <<main, main>>]
  /\ UNCHANGED <<file, main, phase, looked, waiting, asked, owed, inbox, had, crashes, spoiled>>

\* Others may be in force by now.
Ready(w) ==
  /\ state[w] = "starting"
  /\ state' = [state EXCEPT ![w] = "up"]
  /\ inbox' = [inbox EXCEPT ![w] = IF parts[w][1] < main THEN <<main>> ELSE <<>>]
  /\ had' = [had EXCEPT ![w] = Larger(@, parts[w][1])]
  /\ UNCHANGED <<file, main, phase, looked, waiting, asked, owed, parts, crashes, spoiled>>

\* All parts in one turn; never to an older one.
Take(w) ==
  /\ state[w] = "up" /\ inbox[w] # <<>>
  /\ LET next == Larger(Head(inbox[w]), parts[w][1])
     IN /\ parts' = [parts EXCEPT ![w] = <<next, next>>]
        /\ had' = [had EXCEPT ![w] = Larger(@, next)]
        /\ owed' = IF Head(inbox[w]) = main THEN owed \ {w} ELSE owed
  /\ inbox' = [inbox EXCEPT ![w] = Tail(@)]
  /\ UNCHANGED <<file, main, phase, looked, waiting, asked, state, crashes, spoiled>>

\* With everything that was on its way to it.
Crash(w) ==
  /\ state[w] # "down" /\ crashes < MaxCrashes
  /\ crashes' = crashes + 1
  /\ state' = [state EXCEPT ![w] = "down"]
  /\ parts' = [parts EXCEPT ![w] = <<0, 0>>]
  /\ inbox' = [inbox EXCEPT ![w] = <<>>]
  /\ owed' = owed \ {w}
  /\ UNCHANGED <<file, main, phase, looked, waiting, asked, had, spoiled>>

Next ==
  \/ Edit \/ Ask \/ Begin \/ Refuse \/ Keep \/ Accept \/ Answered
  \/ \E w \in Workers : Start(w) \/ Ready(w) \/ Take(w) \/ Crash(w)

Fairness ==
  /\ WF_vars(Begin) /\ WF_vars(Refuse) /\ WF_vars(Keep) /\ WF_vars(Accept) /\ WF_vars(Answered)
  /\ \A w \in Workers : WF_vars(Start(w)) /\ WF_vars(Ready(w)) /\ WF_vars(Take(w))

Spec == Init /\ [][Next]_vars /\ Fairness

\* --- properties

\* No worker runs by parts of two configurations.
NoMix == \A w \in Workers : parts[w][1] = parts[w][2]
RefusedChangesNothing == ~spoiled
\* What was refused is in force nowhere, and on its way to nobody.
RefusedIsNowhere ==
  /\ main \notin Unsound
  /\ \A w \in Workers : parts[w][1] \notin Unsound /\ \A i \in 1..Len(inbox[w]) : inbox[w][i] \notin Unsound
\* A worker that takes the place of another goes by nothing older than that did.
NeverBack == \A w \in Workers : state[w] = "up" => parts[w][1] >= had[w]
\* Who is up goes by what is in force, or that is on its way to it.
NobodyForgotten ==
  \A w \in Workers : state[w] = "up" => parts[w][1] = main \/ \E i \in 1..Len(inbox[w]) : inbox[w][i] = main
\* When no reload is under way, the last one has read what was on disk when somebody asked last, or something newer.
AskedIsRead == phase = "idle" /\ ~waiting => looked >= asked

EveryReloadEnds == (phase # "idle" \/ waiting) ~> (phase = "idle")
\* The file, and who crashes, are at rest some day: then everybody goes by what is in force.
EveryWorkerGetsIt == <>[](\A w \in Workers : state[w] = "up" /\ parts[w] = <<main, main>>)
=============================================================================
