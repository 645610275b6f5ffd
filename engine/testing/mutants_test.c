/* SPDX-License-Identifier: MIT */
/* Do the tests of deaths notice an error? Each case here runs some of them with one store of the
 * engine left out, or done after the store that follows it, and expects them to fail. The store
 * is named by its arguments as written in the source; a name that no longer occurs fails here. */
#include "testing/mpe_test.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The exit status of cases of a program beside this one, with a mutant. */
static int
run(const char *program, const char *cases, const char *mutant)
{
    char self[PATH_MAX] = "", path[PATH_MAX + 64];
    int status = -1;
    REQUIRE(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    snprintf(path, sizeof path, "%s/../%s", dirname(self), program);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        setenv("MPE_TEST_MUTANT", mutant, 1);
        setenv("MPE_TEST_LIMIT", "3", 1); /* a hang counts as noticed */
        unsetenv("MPE_TEST_SLOW"); /* it leaves points out: the error may show at one of them */
        execl(path, path, cases, (char *)NULL);
        _exit(127);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
expect_noticed(const char *program, const char *cases, const char *mutant)
{
    mpe_test_needs_deaths();
    if (!EXPECT_EQ(run(program, cases, mutant), 1))
        printf("      with %s, %s of %s\n", mutant, cases, program);
}

TEST_LIMIT(a_lock_noted_after_it_was_taken, 60)
{
    expect_noticed("objects/queue_deaths_test", "getting_a_small",
                   "delay: &e->self->intents[e->depth++], intent");
}

TEST_LIMIT(a_change_announced_after_its_commit, 60)
{
    expect_noticed("objects/queue_deaths_test", "getting_a_large", "delay: &op->active, 1");
    expect_noticed("objects/list_deaths_test", "removing_from_a_list", "delay: &op->active, 1");
}

TEST_LIMIT(a_rewrite_that_is_never_over, 60)
{
    expect_noticed("objects/dict_deaths_test", "on_a_condition", "leave out: &r->count, 0");
}

TEST_LIMIT(a_block_noted_after_it_was_taken, 60)
{
    expect_noticed("objects/queue_deaths_test", "putting_a_large",
                   "delay: &e->self->inflight[i], off");
}

TEST_LIMIT(an_object_noted_after_its_entry_was_claimed, 60)
{
    expect_noticed("objects/object_deaths_test", "is_stored", "delay: &e->self->making, index");
}

TEST_LIMIT(a_chunk_not_noted_while_it_is_trimmed, 60)
{
    expect_noticed("core/arena_deaths_test", "given_back", "leave out: &h->trimming, i + 1");
}

TEST_LIMIT(memory_that_recovery_does_not_count_again, 60)
{
    expect_noticed("core/arena_deaths_test", "runs_of_chunks",
                   "leave out: &h->committed_bytes, count_committed(e)");
}

TEST_LIMIT(a_queue_that_recovery_does_not_count_again, 60)
{
    expect_noticed("objects/queue_deaths_test", "putting_a_large",
                   "leave out: &q->put_count, mpe__cursor_number(mpe__load64(&s->tail))");
}

TEST_LIMIT(a_task_of_the_dead_that_is_not_done, 60)
{
    expect_noticed("objects/queue_deaths_test", "getting_a_small",
                   "leave out: &q->taken[slot].counted, 0");
}

TEST_LIMIT(a_consumer_that_leaves_its_name, 60)
{
    expect_noticed("objects/queue_wake_deaths_test", "was_served", "leave out: waking, 0");
}

TEST_LIMIT(a_name_of_the_dead_that_is_not_cleared, 60)
{
    expect_noticed("objects/queue_wake_deaths_test", "named_by_the_dead",
                   "leave out: &q->waking, 0");
}

TEST_LIMIT(a_sweep_that_a_death_does_not_ask_for, 60)
{
    expect_noticed("objects/object_deaths_test", "reader_of_a_pipe_finds",
                   "leave out: &e->header->sweep_wanted, 1");
}

TEST_LIMIT(a_notification_that_is_not_counted, 60)
{
    expect_noticed("objects/sync_deaths_test", "a_condition_forgets",
                   "leave out: &body(e, o)->counts[slot], "
                   "n.waiting | (uint64_t)n.woken << MPE__CONDITION_BITS | "
                   "(uint64_t)n.assigned << 2 * MPE__CONDITION_BITS");
}

TEST_LIMIT(a_place_of_the_dead_that_stays_in_the_line, 60)
{
    expect_noticed("objects/limiter_deaths_test", "head_that_is_killed", "leave out: place, 0");
}

TEST_LIMIT(tokens_taken_for_a_waiter_that_is_not_told, 60)
{
    expect_noticed("objects/limiter_deaths_test", "gets_its_tokens",
                   "leave out: &p->word, mpe__load64(&p->word) | GRANTED");
}

TEST_LIMIT(a_place_without_its_cost, 60)
{
    expect_noticed("objects/limiter_deaths_test", "forgets_the_dead",
                   "leave out: &p->cost, line->head->cost");
}

TEST_LIMIT(a_traced_record_that_counts_before_it_is_whole, 60)
{
    expect_noticed("proc/tracer_deaths_test", "while_it_notes", "delay: &r->number_what, words[3]");
}

TEST_LIMIT(an_arrival_that_is_not_counted, 60)
{
    expect_noticed(
        "objects/sync_deaths_test", "a_barrier_can_be_reset",
        "leave out: &b->arrived[e->slot], (uint64_t)g << 32 | (arrivals(b, e->slot, g) + 1)");
}

TEST_LIMIT(an_item_said_to_run_after_it_was_claimed, 60)
{
    expect_noticed("objects/lease_deaths_test", "killed_in_a_task",
                   "delay: word_of(b, worker, RUN), run_of(number, item)");
}

TEST_LIMIT(a_lease_written_after_the_task_has_left_the_queue, 60)
{
    expect_noticed("objects/lease_deaths_test", "killed_in_a_task",
                   "delay: lease, (uint64_t)n + 1");
}

TEST_LIMIT(a_result_that_is_not_published, 60)
{
    expect_noticed("objects/lease_deaths_test", "killed_in_a_task",
                   "leave out: &b->published, ((published >> 32) + 1) << 32 | used");
}

TEST_LIMIT(a_task_put_at_a_place_that_was_not_offered, 60)
{
    expect_noticed("objects/lease_deaths_test", "puts_a_task", "leave out: claims_of(b, place), 0");
}

TEST_LIMIT(a_cleared_shard_that_does_not_say_so, 60)
{
    expect_noticed("objects/cache_deaths_test", "clearing_a_cache", "leave out: &s->epoch, epoch");
}

TEST_LIMIT(an_item_that_is_not_linked, 60)
{
    expect_noticed("objects/cache_deaths_test", "replacing_a_value", "leave out: entry, word");
}

TEST_LIMIT(a_computation_of_the_dead_that_no_process_takes_over, 60)
{
    expect_noticed("objects/cache_fetch_deaths_test", "though_the_one_before_dies",
                   "leave out: &f->owner, 0");
}

TEST_LIMIT(a_flight_announced_after_its_commit, 60)
{
    expect_noticed("objects/cache_fetch_deaths_test", "ends_with_the_process",
                   "delay: &op->active, 1");
}
