----------------------------- MODULE Supervision -----------------------------
(* One supervisor and its children, daemon/supervision/supervise.ts: started in order, stopped in reverse, restarted      *)
(* after a crash at most MaxRestarts times in a period, else everything stops and the supervisor's own supervisor is told. *)
(* Children crash at any moment, starts fail or hang, stops hang and are killed; the order to stop may come at any         *)
(* moment, also while something is being started.                                                                        *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  N,              \* children 1..N
  MaxRestarts,
  Strategy,       \* "one_for_one", "rest_for_one", "one_for_all"
  MaxCrashes

Children == 1..N

VARIABLES
  state,          \* "starting", "running", "stopping", "stopped"
  status,         \* per child: "stopped", "starting", "running", "restarting", "stopping"
  living,         \* children with something running in the world
  toStop,         \* children of the group being stopped before a restart
  toStart,        \* children of the group to be started again
  restarts,       \* in the present period
  told,           \* escalation was reported
  crashes,
  disorder        \* something was stopped before what was started after it

vars == <<state, status, living, toStop, toStart, restarts, told, crashes, disorder>>

TypeOK ==
  /\ state \in {"starting", "running", "stopping", "stopped"}
  /\ \A c \in Children : status[c] \in {"stopped", "starting", "running", "restarting", "stopping"}

Init ==
  /\ state = "starting"
  /\ status = [c \in Children |-> "stopped"]
  /\ living = {} /\ toStop = {} /\ toStart = {} /\ restarts = 0 /\ told = FALSE /\ crashes = 0 /\ disorder = FALSE

Group(c) ==
  IF Strategy = "one_for_one" THEN {c} ELSE IF Strategy = "rest_for_one" THEN {d \in Children : d >= c} ELSE Children

Min(S) == CHOOSE c \in S : \A d \in S : c <= d
Max(S) == CHOOSE c \in S : \A d \in S : c >= d
Busy == toStop # {} \/ toStart # {}

\* --- start

\* The next one in order; start() of the child runs from here on, and may have made something already.
BeginStart(c) ==
  /\ \/ state = "starting" /\ status[c] = "stopped" /\ \A d \in Children : d < c => status[d] = "running"
     \/ state = "running" /\ toStop = {} /\ toStart # {} /\ c = Min(toStart) /\ status[c] = "restarting"
  /\ \A d \in Children : status[d] # "starting"
  /\ status' = [status EXCEPT ![c] = "starting"]
  /\ living' = living \cup {c}
  /\ UNCHANGED <<state, toStop, toStart, restarts, told, crashes, disorder>>

\* start() is through. When everything was told to stop meanwhile, the child is stopped at once, and only then is it settled.
Started(c) ==
  /\ status[c] = "starting"
  /\ IF state = "stopping"
     THEN status' = [status EXCEPT ![c] = "stopped"] /\ living' = living \ {c}
     ELSE status' = [status EXCEPT ![c] = "running"] /\ living' = living
  /\ toStart' = toStart \ {c}
  /\ state' = IF state = "starting" /\ c = N THEN "running" ELSE state
  /\ UNCHANGED <<toStop, restarts, told, crashes, disorder>>

\* start() throws or takes too long. At first this ends the supervisor; in a restart it is a crash like any other.
StartFails(c) ==
  /\ status[c] = "starting" /\ crashes < MaxCrashes
  /\ crashes' = crashes + 1
  /\ living' = living \ {c}
  /\ status' = [status EXCEPT ![c] = IF state = "running" THEN "restarting" ELSE "stopped"]
  /\ IF state = "running"
     THEN IF restarts < MaxRestarts
          THEN /\ restarts' = restarts + 1
               /\ toStop' = Group(c) \cap (living \ {c}) /\ toStart' = Group(c)
               /\ UNCHANGED <<state, told>>
          ELSE /\ state' = "stopping" /\ told' = TRUE /\ toStart' = {} /\ toStop' = {} /\ UNCHANGED restarts
     ELSE /\ state' = "stopping" /\ told' = TRUE /\ UNCHANGED <<toStop, toStart, restarts>>
  /\ UNCHANGED disorder

\* --- crashes and restarts, one after the other

Crash(c) ==
  /\ state = "running" /\ ~Busy /\ status[c] = "running" /\ crashes < MaxCrashes
  /\ crashes' = crashes + 1
  /\ IF restarts < MaxRestarts
     THEN /\ restarts' = restarts + 1
          /\ status' = [d \in Children |-> IF d \in Group(c) THEN "restarting" ELSE status[d]]
          /\ toStop' = Group(c) \cap living /\ toStart' = Group(c)
          /\ UNCHANGED <<state, told>>
     ELSE /\ state' = "stopping" /\ told' = TRUE
          /\ UNCHANGED <<restarts, status, toStop, toStart>>
  /\ UNCHANGED <<living, disorder>>

\* Of a group that is restarted, the last one first.
StopForRestart(c) ==
  /\ state = "running" /\ toStop # {} /\ c = Max(toStop)
  /\ toStop' = toStop \ {c}
  /\ living' = living \ {c}
  /\ status' = [status EXCEPT ![c] = "restarting"]
  /\ UNCHANGED <<state, toStart, restarts, told, crashes, disorder>>

PeriodPasses ==
  /\ restarts > 0 /\ state = "running" /\ ~Busy
  /\ restarts' = 0
  /\ UNCHANGED <<state, status, living, toStop, toStart, told, crashes, disorder>>

\* --- stop

AskedToStop ==
  /\ state \in {"starting", "running"}
  /\ state' = "stopping"
  /\ toStop' = {} /\ toStart' = {}
  /\ UNCHANGED <<status, living, restarts, told, crashes, disorder>>

\* In reverse order. One that is being started is waited for; one that does not stop in its time is killed.
StopChild(c) ==
  /\ state = "stopping" /\ c \in living /\ status[c] # "starting"
  /\ c = Max(living)
  /\ living' = living \ {c}
  /\ status' = [status EXCEPT ![c] = "stopped"]
  /\ disorder' = (disorder \/ \E d \in living : d > c)
  /\ UNCHANGED <<state, toStop, toStart, restarts, told, crashes>>

AllStopped ==
  /\ state = "stopping" /\ living = {}
  /\ state' = "stopped"
  /\ UNCHANGED <<status, living, toStop, toStart, restarts, told, crashes, disorder>>

Next ==
  \/ \E c \in Children : BeginStart(c) \/ Started(c) \/ StartFails(c) \/ Crash(c) \/ StopForRestart(c) \/ StopChild(c)
  \/ PeriodPasses \/ AskedToStop \/ AllStopped

Fairness ==
  /\ \A c \in Children : WF_vars(BeginStart(c)) /\ WF_vars(Started(c)) /\ WF_vars(StopForRestart(c)) /\ WF_vars(StopChild(c))
  /\ WF_vars(AllStopped)

Spec == Init /\ [][Next]_vars /\ Fairness

\* --- properties

NoOrphan == state = "stopped" => living = {}
ReverseOrder == ~disorder
IntensityBounded == restarts <= MaxRestarts
\* While everything runs, whatever was started before a child that runs is there too, or is being brought back.
OrderOfStart == \A c, d \in Children : (state = "starting" /\ c < d /\ d \in living) => c \in living

StopEnds == (state = "stopping") ~> (state = "stopped")
CrashHeals == \A c \in Children : (status[c] = "restarting") ~> (status[c] = "running" \/ state = "stopped")
=============================================================================
