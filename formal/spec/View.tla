--------------------------------- MODULE View ---------------------------------
(* The epoch view, its authorities and its readers (core/directory/view.ts, daemon/directory): every honest authority     *)
(* signs one view per epoch and never another, whatever happens to it; a view counts with a threshold of signatures; a     *)
(* reader never goes back and never takes two views of one epoch. Corrupt authorities sign anything, sources serve any     *)
(* signed view to anybody, authorities and readers crash and come back with what they had written to disk.                *)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Honest,         \* authorities
  Corrupt,
  Threshold,
  Readers,
  MaxEpoch,
  MaxCrashes

Authorities == Honest \cup Corrupt
\* An honest authority may see either set of descriptors first.
Views == {"a", "b"}
Epochs == 1..MaxEpoch

\* What keeps two views of one epoch from both having enough signatures, and lets the honest ones do without the others.
ASSUME 2 * Threshold > Cardinality(Authorities) + Cardinality(Corrupt)
ASSUME Threshold <= Cardinality(Honest)

VARIABLES
  epoch,
  proposal,       \* per epoch: what the honest authorities agreed to sign, "none" before
  wrote,          \* per authority: {<<epoch, view>>} on its disk
  signatures,     \* {<<authority, epoch, view>>} published
  accepted,       \* per reader: {<<epoch, view>>} ever accepted, in any life
  last,           \* per reader: <<epoch, view>> in use, <<0, "none">> before
  back,           \* some reader went back
  crashes

vars == <<epoch, proposal, wrote, signatures, accepted, last, back, crashes>>

TypeOK == epoch \in Epochs /\ \A s \in signatures : s[1] \in Authorities

Init ==
  /\ epoch = 1
  /\ proposal = [e \in Epochs |-> "none"]
  /\ wrote = [a \in Authorities |-> {}]
  /\ signatures = {}
  /\ accepted = [r \in Readers |-> {}]
  /\ last = [r \in Readers |-> <<0, "none">>]
  /\ back = FALSE /\ crashes = 0

NextEpoch ==
  /\ epoch < MaxEpoch
  /\ epoch' = epoch + 1
  /\ UNCHANGED <<proposal, wrote, signatures, accepted, last, back, crashes>>

\* Who signs first sets what the others, who have heard of it, sign too; one that has not heard signs its own.
Sign(a, v) ==
  /\ a \in Honest
  /\ \A w \in wrote[a] : w[1] # epoch
  /\ proposal' = IF proposal[epoch] = "none" THEN [proposal EXCEPT ![epoch] = v] ELSE proposal
  /\ wrote' = [wrote EXCEPT ![a] = @ \cup {<<epoch, v>>}]
  /\ signatures' = signatures \cup {<<a, epoch, v>>}
  /\ UNCHANGED <<epoch, accepted, last, back, crashes>>

\* The usual course: it signs what was proposed.
SignProposal(a) == Sign(a, IF proposal[epoch] = "none" THEN "a" ELSE proposal[epoch])

SignAnything ==
  /\ \E a \in Corrupt, e \in Epochs, v \in Views :
       /\ <<a, e, v>> \notin signatures
       /\ signatures' = signatures \cup {<<a, e, v>>}
  /\ UNCHANGED <<epoch, proposal, wrote, accepted, last, back, crashes>>

Signers(e, v) == {a \in Authorities : <<a, e, v>> \in signatures}

Accept(r, e, v) ==
  /\ e <= epoch
  /\ Cardinality(Signers(e, v)) >= Threshold
  /\ e >= last[r][1]
  /\ e = last[r][1] => v = last[r][2]
  /\ <<e, v>> # last[r]
  /\ last' = [last EXCEPT ![r] = <<e, v>>]
  /\ accepted' = [accepted EXCEPT ![r] = @ \cup {<<e, v>>}]
  /\ back' = (back \/ \E x \in accepted[r] : e < x[1])
  /\ UNCHANGED <<epoch, proposal, wrote, signatures, crashes>>

CrashAuthority(a) ==
  /\ crashes < MaxCrashes
  /\ crashes' = crashes + 1
  /\ wrote' = [wrote EXCEPT ![a] = @]
  /\ UNCHANGED <<epoch, proposal, signatures, accepted, last, back>>

CrashReader(r) ==
  /\ crashes < MaxCrashes
  /\ crashes' = crashes + 1
  /\ last' = [last EXCEPT ![r] = @]
  /\ UNCHANGED <<epoch, proposal, wrote, signatures, accepted, back>>

Next ==
  \/ NextEpoch \/ SignAnything
  \/ \E a \in Honest : CrashAuthority(a) \/ \E v \in Views : Sign(a, v)
  \/ \E r \in Readers : CrashReader(r) \/ \E e \in Epochs, v \in Views : Accept(r, e, v)

\* For liveness: authorities that have all heard of the proposal; readers that ask.
Calm == \A e \in Epochs : \A a \in Honest : \A w \in wrote[a] : w[1] = e => w[2] = proposal[e]

Fairness ==
  /\ \A a \in Honest : WF_vars(SignProposal(a))
  /\ \A r \in Readers : WF_vars(\E v \in Views : Accept(r, MaxEpoch, v))

Spec == Init /\ [][Next]_vars /\ Fairness

\* --- properties

NoRollback == ~back
\* No two readers, and no reader in two lives, ever use different views of one epoch.
NoFork == \A r, s \in Readers : \A x \in accepted[r], y \in accepted[s] : x[1] = y[1] => x[2] = y[2]
\* Nothing is accepted that the corrupt authorities could have made alone.
HonestSigned == \A r \in Readers : \A x \in accepted[r] : Signers(x[1], x[2]) \cap Honest # {}
SignedOnce == \A a \in Honest : \A s, t \in signatures : (s[1] = a /\ t[1] = a /\ s[2] = t[2]) => s[3] = t[3]

\* The last epoch's view reaches every reader, whatever corrupt authorities leave unsigned.
ViewArrives == \A r \in Readers : <>(last[r][1] = MaxEpoch \/ epoch < MaxEpoch \/ ~Calm)
=============================================================================
