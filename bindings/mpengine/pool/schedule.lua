--- The flow of a pool's tasks, in its own process: jobs wait in a list, are cut into tasks while the
--- queue has room, and get their results here.
---
--- A job has `ops`, a table of functions: hand_out(job, pool) puts its next task, or returns false;
--- arrived(job, first, count, reports, elapsed, ...) takes the results of items; failed(job, index,
--- error) takes the error of an item that has none; give_back(job, first, last) takes items that
--- were not run; abandon(job, error) ends the job.
---
--- A task is a reusable table: place (its own), number, job, first, count, got (how many of its
--- results have arrived), values (where C stores results), void (an item, from 0, whose result is
--- no longer wanted, or "all").
---
--- The modules that are built on this one give a pool three functions when it is made (schedule.new):
--- start_more(pool) when there are more tasks than workers, and fewer workers than wanted;
--- news(pool, what, index, report) for a message of a worker that has no result; watch_timeout(pool,
--- seconds) when a task with a timeout was put.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local publish = require "mpengine.pool.publish"

local pool_put = core.pool_put

local schedule = {}

schedule.PLACES = 16384         -- maximum of tasks on the queue or running
local STEAL_SECONDS = 0.005     -- after which unclaimed items go to an idle worker
local BATCH = 64                -- results between two turns of the other tasks of this process

--- The limit of map tasks on the queue or running: enough to keep all workers busy.
local function limit_of(pool) return 64 + 16 * pool.size end

--- The fields of a pool that the functions below use, added to what is there. upper: the three
--- functions.
function schedule.new(pool, upper)
    pool.upper = upper
    pool.tasks, pool.outstanding, pool.several, pool.completed = {}, 0, 0, 0
    pool.failed = 0
    pool.jobs, pool.first_job, pool.last_job = {}, 1, 0
    return pool
end

--- Adds a job to the list that feed reads.
function schedule.enqueue(pool, job, in_front)
    if job.queued then return end
    job.queued = true
    if in_front then
        pool.first_job = pool.first_job - 1
        pool.jobs[pool.first_job] = job
    else
        pool.last_job = pool.last_job + 1
        pool.jobs[pool.last_job] = job
    end
end

local function new_task(pool)
    local task = {
        place = #pool.tasks + 1, number = -1, job = nil, first = 1, count = 1, got = 0, values = nil, void = nil,
        several = false, next = nil, reasons = nil,
    }
    pool.tasks[task.place] = task
    return task
end

--- Puts items first .. first + count - 1 of a job on the queue: true, and the values for jobs.keep;
--- or nil and why they cannot be sent.
function schedule.put(pool, job, first, count)
    local task = pool.spare or new_task(pool)
    pool.spare = task.next
    local ok, number, bytes, has_objects = pcall(pool_put, pool.inbox, pool.control,
        job.where, task.place, job.f_id, job.shared_id, job.mode, job.items, first, job.item_count or count)
    if not ok then
        task.next = pool.spare
        pool.spare = task
        return nil, number
    end
    task.number, task.job, task.first, task.count, task.got = number, job, first, count, 0
    task.values, task.reasons, task.void = job.values, job.reasons, nil
    if count > 1 then
        task.several = true
        pool.several = pool.several + 1
    end
    pool.outstanding = pool.outstanding + 1
    if job.timeout then pool.upper.watch_timeout(pool, job.timeout) end
    return true, bytes, has_objects
end

--- A task has ended, or is no longer wanted.
function schedule.forget(pool, task)
    if task.several then
        task.several = false
        pool.several = pool.several - 1
    end
    task.number, task.job, task.values, task.reasons = -1, nil, nil, nil
    task.next = pool.spare
    pool.spare = task
    pool.outstanding = pool.outstanding - 1
end

--- Returns the unclaimed items of a task to its job; at least so many count as claimed.
function schedule.reclaim(pool, task, least)
    local claimed = math.max(core.pool_reclaim(pool.control, task.place), least or 0)
    if claimed >= task.count then return end
    if task.void ~= "all" then
        task.job.ops.give_back(task.job, task.first + claimed, task.first + task.count - 1)
        schedule.enqueue(pool, task.job, true)
    end
    task.count = claimed
    if task.several then
        task.several = false
        pool.several = pool.several - 1
    end
end

--- The task with a number, or nil.
function schedule.find(pool, number)
    for _, task in ipairs(pool.tasks) do
        if task.number == number then return task end
    end
end

-- ---- idle workers ----

local function steal(pool)
    pool.stealing = false
    if pool.terminated or pool.inbox:qsize() > 0 or pool.outstanding >= pool.alive then return end
    for _, task in ipairs(pool.tasks) do
        if task.several then schedule.reclaim(pool, task) end
    end
    schedule.feed(pool)
end

--- If a worker is still idle after STEAL_SECONDS, reassigns unclaimed items to it.
local function steal_soon(pool)
    if pool.stealing then return end
    pool.stealing = true
    core.spawn(function()
        core.sleep(STEAL_SECONDS)
        steal(pool)
    end)
end

--- Keeps the queue filled with tasks of the jobs, in their order.
function schedule.feed(pool)
    local limit = limit_of(pool)
    while pool.outstanding < limit and pool.first_job <= pool.last_job do
        local job = pool.jobs[pool.first_job]
        if not job.ops.hand_out(job, pool) and pool.jobs[pool.first_job] == job then
            pool.jobs[pool.first_job] = nil
            pool.first_job = pool.first_job + 1
            job.queued = false
        end
    end
    if pool.outstanding > pool.alive and pool.alive < pool.size then pool.upper.start_more(pool) end
    if pool.first_job <= pool.last_job then return end
    if pool.outstanding == 0 then
        if pool.closed then pool.inbox:close() end
    elseif pool.several > 0 and pool.outstanding < pool.alive then
        steal_soon(pool)
    end
end

-- ---- results ----

--- Passes on the results of all items but one, whose result is no longer wanted.
local function arrived_without(void, job, first, values, reasons, from, count, elapsed, reports)
    for i = from, from + count - 1 do
        local index = first + i
        if i ~= void then
            if job.values then job.values[index] = values[index] end
            if job.reasons then job.reasons[index] = reasons[index] end
            job.ops.arrived(job, index, 1, reports and reports[index] and reports, elapsed / count)
        end
    end
end

--- Of a call there is one report; of items, one by the index of each that failed.
local function count_failures(pool, reports)
    if reports.message then pool.failed = pool.failed + 1 return end
    for _ in pairs(reports) do pool.failed = pool.failed + 1 end
end

--- Handles a message of the workers; returns whether there was one.
function schedule.handle(pool, task, worker, from, count, elapsed, last, reports, ...)
    if not task then
        if task == nil then return false end
        if worker then pool.upper.news(pool, worker, from, count) end
        return true
    end
    if pool.unready > 0 then pool.upper.news(pool, "ready", worker) end
    local job, first, void, got = task.job, task.first, task.void, task.got
    local values, kept_reasons = task.values, task.reasons
    if last then
        pool.completed = pool.completed + 1
        schedule.forget(pool, task)
    end
    if count == 0 or from < got then return true end -- or it has arrived before
    if reports then count_failures(pool, reports) end
    task.got = from + count
    if void == nil then
        job.ops.arrived(job, first + from, count, reports, elapsed, ...)
    elseif void ~= "all" then
        arrived_without(void, job, first, values, kept_reasons, from, count, elapsed, reports)
    end
    return true
end

--- Passes results on until the pool has ended.
local function receive_all(pool)
    local handle, receive, outbox, tasks = schedule.handle, core.pool_receive, pool.outbox, pool.tasks
    while not pool.terminated do
        if not handle(pool, receive(outbox, tasks)) then break end
        local n = 1
        while n < BATCH and handle(pool, receive(outbox, tasks, 0)) do n = n + 1 end
        if pool.terminated then break end
        schedule.feed(pool)
        if pool.outstanding == 0 then publish.tidy(pool) end
        if n == BATCH then core.sleep(0) end
    end
end

--- Takes the results that have arrived, without waiting.
local function receive_arrived(pool)
    repeat until not schedule.handle(pool, core.pool_receive(pool.outbox, pool.tasks, 0))
end

-- ---- failures ----

--- An item that began has no result: it runs again, if its job allows it, or fails with that error.
function schedule.lose(pool, job, index, fields)
    local tries = job.tries and job.tries[index] or 0
    if tries >= job.retries then
        pool.failed = pool.failed + 1
        return job.ops.failed(job, index, errors.new(fields))
    end
    job.tries = job.tries or {}
    job.tries[index] = tries + 1
    job.ops.give_back(job, index, index)
    schedule.enqueue(pool, job, true)
end

--- An error object with these fields; each call gets its own.
local function error_of(fields)
    local copy = {}
    for key, value in pairs(fields) do copy[key] = value end
    return errors.new(copy)
end

--- Later results of a task are not stored with its job.
function schedule.set_aside(task)
    if task.values then task.values, task.reasons = {}, {} end
end

--- A task is no longer wanted: its queued items do not run.
function schedule.void(pool, task)
    task.void = "all"
    schedule.set_aside(task)
    schedule.reclaim(pool, task)
end

--- Fails everything that is queued or running; see(pool, task) disposes of its tasks.
local function fail_all(pool, fields, see)
    local jobs = {}
    for _, job in pairs(pool.jobs) do jobs[job] = true end
    for _, task in ipairs(pool.tasks) do
        if task.job then
            if task.void ~= "all" then jobs[task.job] = true end
            see(pool, task)
        end
    end
    pool.jobs, pool.first_job, pool.last_job = {}, 1, 0
    for job in pairs(jobs) do
        job.queued = false
        job.ops.abandon(job, error_of(fields))
    end
    pool.changed:wake()
end

--- Receives results. When that fails, for want of memory, a result may be lost: the calls that are outstanding fail.
--- Returns whether there was no such error.
local function receive_or_fail(pool, receive)
    local ok, why = pcall(receive, pool)
    if ok or pool.terminated then return true end
    if errors.is(why) and why.kind == "killed" then error(why, 0) end
    fail_all(pool, { kind = "error", message = "results cannot be received: " .. errors.message(why) }, schedule.void)
    return false
end

--- Takes the results that have arrived, without waiting.
function schedule.drain(pool) receive_or_fail(pool, receive_arrived) end

--- The task of the pool's process that receives results.
function schedule.pump(pool)
    repeat until receive_or_fail(pool, receive_all)
end

--- The pool has ended: drops its tasks.
function schedule.fail_all(pool, fields) fail_all(pool, fields, schedule.forget) end

--- No worker becomes ready: calls fail with the reason until one does. Queued messages are dropped
--- then.
function schedule.suspend(pool, fields)
    pool.trouble = fields
    if pool.closed then return schedule.give_up(pool) end
    fail_all(pool, fields, schedule.void)
end

--- Raises the reason why calls fail.
function schedule.raise_trouble(pool) error(error_of(pool.trouble), 0) end

--- A pool that accepts no more calls, and has no worker for the existing ones.
function schedule.give_up(pool)
    schedule.fail_all(pool, pool.trouble)
    pool.inbox:close()
end

return schedule
