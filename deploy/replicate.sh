#!/bin/sh
# replicate.sh: makes db1 and db2 master-master, db3 and db4 replicas of db1, and the accounts; run again, it changes nothing
# that is right. Started by docker-compose.yml; needs MariaDB's client.
#   SERVERS            host:port of each, the masters first    [db1:3306 db2:3306 db3:3306 db4:3306]
#   ROOT_PASSWORD      of root on all of them
#   MONITOR_PASSWORD   of sluice, REPLICATION_PASSWORD of repl, APP_PASSWORD of app
set -eu
set -- ${SERVERS:-db1:3306 db2:3306 db3:3306 db4:3306}
first=$1 second=$2

run() { # SERVER, statements on stdin
	mariadb --skip-ssl -h "${1%:*}" -P "${1#*:}" -u root ${ROOT_PASSWORD:+-p"$ROOT_PASSWORD"} -N
}

for server; do
	tries=0
	until echo 'SELECT 1' | run "$server" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || {
			echo "replicate.sh: $server does not answer" >&2
			exit 1
		}
		sleep 1
	done
done

# The same accounts on each, in no binary log, so that they are there before replication is.
for server; do
	run "$server" <<-SQL
		SET sql_log_bin = 0;
		CREATE USER IF NOT EXISTS sluice@'%' IDENTIFIED BY '$MONITOR_PASSWORD';
		GRANT SLAVE MONITOR, READ_ONLY ADMIN, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, PROCESS, CONNECTION ADMIN ON *.* TO sluice@'%';
		CREATE DATABASE IF NOT EXISTS sluice;
		GRANT SELECT, INSERT, UPDATE, CREATE ON sluice.* TO sluice@'%';
		CREATE USER IF NOT EXISTS repl@'%' IDENTIFIED BY '$REPLICATION_PASSWORD';
		GRANT REPLICATION SLAVE ON *.* TO repl@'%';
		CREATE USER IF NOT EXISTS app@'%' IDENTIFIED BY '$APP_PASSWORD';
		CREATE DATABASE IF NOT EXISTS shop;
		GRANT ALL ON shop.* TO app@'%';
	SQL
done

follow() { # SERVER, its master
	[ -z "$(echo 'SHOW REPLICA STATUS' | run "$1")" ] || return 0
	run "$1" <<-SQL
		CHANGE MASTER TO master_host = '${2%:*}', master_port = ${2#*:}, master_user = 'repl',
		  master_password = '$REPLICATION_PASSWORD', master_use_gtid = slave_pos, master_connect_retry = 1;
		START SLAVE;
	SQL
}
for server; do
	case $server in
	"$first") follow "$server" "$second" ;;
	*) follow "$server" "$first" ;;
	esac
done

# The first starts writable, the others read-only (--read-only). Where none of the masters is writable, the first becomes so.
for server in "$first" "$second"; do
	[ "$(echo 'SELECT @@global.read_only' | run "$server")" != 0 ] || exit 0
done
echo 'SET GLOBAL read_only = 0' | run "$first"
echo "$first takes the writes"
