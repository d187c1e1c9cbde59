"""The README's recipes for Django, Flask and Celery run unchanged, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.blocking.programs import run_program
from tests.support.readme import environment, write_recipe
from tests.support.sandbox_process import SandboxProcess
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.processes

DJANGO = """
import secrets, sys, warnings
import django
from django.conf import settings
from django.core.management import BaseCommand, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import path

settings.configure(
    SECRET_KEY=secrets.token_hex(), ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

import views
from pico_async import SmsMessage
from pico_async.blocking import Pico

urlpatterns = [path("codes", views.code)]
with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE people (phone text, opted_out bool)")


def has_opted_out(phone):
    with connection.cursor() as cursor:
        return cursor.execute("SELECT opted_out FROM people WHERE phone = %s", [phone]).fetchone() == (1,)


class Command(BaseCommand):
    def handle(self, **_):
        with connection.cursor() as people, Pico(suppression=has_opted_out) as pico:
            rows = people.execute("SELECT phone FROM people").fetchall()
            report = pico.send_bulk((SmsMessage(phone, "We moved") for phone, in rows), on_result=self.note)
            self.stdout.write(f"{report.accepted} accepted, {report.suppressed} suppressed")

    def note(self, result):
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM people WHERE phone = %s", [result.message.to])


client = Client()
print(client.post("/codes", {"phone": "+86 123 4567 8901"}).json())
print(client.post("/codes", {"phone": "12"}).status_code)
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("INSERT INTO people VALUES ('8612345678902', false), ('8612345678903', true)")
    call_command(Command())  # it sees what is not committed
    print(cursor.execute("SELECT count(*) FROM people").fetchone())
"""

FLASK = """
from flask_app import app

client = app.test_client()
print(client.post("/codes", data={"phone": "+86 123 4567 8901"}).json)
print(client.post("/codes", data={"phone": "12"}).status_code)
"""

CELERY = """
from tasks import send

for number in range(8):
    send.delay(f"861234567890{number}", "Your parcel is here", f"order-{number}")
"""


def test_a_django_view_and_a_command_send_and_use_the_orm(tmp_path: Path, quick: SandboxProcess) -> None:
    """
    A Django view sends a code. A command sends to people whom it reads in the caller's transaction; its suppression
    and its `on_result` function run queries in that transaction, too.
    """
    write_recipe("django", tmp_path)

    ran = run_program(DJANGO, tmp_path, quick)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == ["{'outcome': 'accepted'}", "502", "1 accepted, 1 suppressed", "(0,)"]
    assert quick.accepted_by_number() == {"8612345678901": 1, "8612345678902": 1}


def test_a_flask_view_sends(tmp_path: Path, quick: SandboxProcess) -> None:
    """A Flask view sends a code, and answers an error with its outcome."""
    write_recipe("flask", tmp_path)

    ran = run_program(FLASK, tmp_path, quick)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == ["{'outcome': 'accepted'}", "502"]
    assert quick.accepted_by_number() == {"8612345678901": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="Celery has no prefork pool on Windows")
def test_celery_s_forked_workers_send_over_one_token(tmp_path: Path, quick: SandboxProcess, redis_url: str) -> None:
    """Two forked processes of a Celery worker, over a real broker, send each message once and share one token."""
    write_recipe("celery", tmp_path)
    (tmp_path / "program.py").write_text(CELERY)
    broker = redis_url.replace("unix://", "redis+socket://")
    variables = environment(quick.base_url, PICO_REDIS_URL=redis_url, CELERY_BROKER_URL=broker)
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "WARNING"]
    worker = subprocess.Popen(
        command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=variables, check=True)
        wait_until(lambda: len(quick.accepted()) == 8, "all messages arrived")
        worker.send_signal(signal.SIGTERM)
        output, _ = worker.communicate(timeout=PATIENCE_S)
    finally:
        worker.kill()

    assert worker.returncode == 0, output
    assert "Traceback" not in output
    assert quick.accepted_by_number() == {f"861234567890{number}": 1 for number in range(8)}
    assert quick.ledger().token_requests == 1
