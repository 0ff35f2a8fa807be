"""A mix of MySQL queries on kept connections: sysbench and MariaDB."""

from bench.outputs import Sample, sysbench, sysbench_latencies
from bench.results import Unit
from bench.works.base import Work
from tests.e2e.servers import MYSQL_PASSWORD, MYSQL_USER, MariaDb

THREADS = 16
QUERIES = 14  # of a transaction of oltp_read_only: ten of one row, four of a range
DATABASE = "bench"


class Mysql(Work):
    """Queries on kept connections."""

    name = "mysql"
    about = "sysbench oltp_read_only, 16 kept connections; two MariaDB; ten queries for a row to four for a range"
    port = 3306
    unit = Unit("queries/s", "us/query")
    tools = ("sysbench", "mariadbd")

    def serve(self) -> None:
        """Start one MariaDB for each address, with a table of 1,000 rows."""
        host = self.place.servers
        for number, address in enumerate(self.backends, 1):
            MariaDb(self.bed, host, [address], number, cpus=self.place.cpus)
            login = ["mariadb", "--no-defaults", f"-h{address}", f"-P{self.port}", f"-u{MYSQL_USER}"]
            login += [f"-p{MYSQL_PASSWORD}", "-e", f"create database {DATABASE}"]
            self.bed.run(host, login, check=True)
            self.bed.run(host, self._argv(address, "prepare"), timeout=60, check=True)

    def _argv(self, address: str, command: str, *more: str) -> list[str]:
        argv = ["sysbench", "oltp_read_only", "--db-driver=mysql", f"--mysql-host={address}"]
        argv += [f"--mysql-port={self.port}", f"--mysql-user={MYSQL_USER}", f"--mysql-password={MYSQL_PASSWORD}"]
        argv += [f"--mysql-db={DATABASE}", "--tables=1", "--table-size=1000", "--range-size=20", "--skip-trx=on"]
        return [*argv, "--db-ps-mode=disable", f"--threads={THREADS}", *more, command]

    def run(self, address: str, seconds: float) -> Sample:
        """Query without a pause on every connection."""
        return sysbench(self.ask(self._argv(address, "run", f"--time={max(1, round(seconds))}"), seconds))

    def latencies(self, address: str, seconds: float, rate: float) -> tuple[list[float], int]:
        """Run transactions at a fixed rate; the latencies are those of whole transactions, of 14 queries each."""
        more = (f"--time={max(1, round(seconds))}", "--histogram", f"--rate={max(1, round(rate / QUERIES))}")
        text = self.ask(self._argv(address, "run", *more), seconds)
        return sysbench_latencies(text), sysbench(text).failed
