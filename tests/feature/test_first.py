from pgwerk import AsyncWorker, JobStatus, Werk
from tests import handlers


async def test_a_job_runs_and_its_result_comes_back_as_it_was(app: Werk):
    job = await app.enqueue(handlers.echo, "123")
    assert job is not None
    await AsyncWorker(app=app, burst=True).run()
    done = await app.get_job(job)
    assert (done.status, done.result, done.attempts) == (JobStatus.Complete, "123", 1)
