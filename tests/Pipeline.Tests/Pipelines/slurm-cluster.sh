#!/bin/bash
# A Slurm cluster of two nodes on this machine, for tests: slurm-cluster.sh up|down FOLDER. Needs root, slurmctld, slurmd
# and munge; no systemd and no database. FOLDER must be short (sockets) and readable by all.
set -euo pipefail
root=$2
host=$(hostname -s)
if [ "$1" = down ]; then
  for pid in n1 n2 ctld munged; do
    [ -f "$root/$pid.pid" ] || continue
    number=$(cat "$root/$pid.pid")
    kill "$number" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$number" 2>/dev/null && sleep 0.1 || break; done
  done
  exit 0
fi
memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 2048 - 512))
mkdir -p "$root"/{state,spool.n1,spool.n2,log}
chmod 755 "$root"
cat > "$root/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$root/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=16817
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool.%n
SlurmctldPidFile=$root/ctld.pid
SlurmdPidFile=$root/%n.pid
SlurmctldLogFile=$root/log/ctld.log
SlurmdLogFile=$root/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$root/log/jobcomp.log
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
SlurmdTimeout=5
KillWait=5
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=1 RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
CONF
(umask 077 && head -c 1024 /dev/urandom > "$root/munge.key")
munged --force --key-file="$root/munge.key" --socket="$root/munge.sock" --pid-file="$root/munged.pid" \
  --log-file="$root/log/munged.log" --seed-file="$root/munged.seed"
export SLURM_CONF=$root/slurm.conf
slurmctld
slurmd -N n1
slurmd -N n2
for _ in $(seq 100); do
  [ "$(sinfo -h -o '%D %T' 2>/dev/null)" = "2 idle" ] && exit 0
  sleep 0.1
done
sinfo >&2
exit 1
