--- The processes of a pool. The first worker is started with the pool, the others as soon as it is
--- ready or there are tasks for them. Workers that die are replaced.
local mp = require "mpengine"
local core = require "mpengine.core"
local process = require "mpengine.process"
local errors = require "mpengine.errors"
local restart = require "mpengine.restart"
local schedule = require "mpengine.pool.schedule"
local worker = require "mpengine.pool.worker"

local workers = {}

local BUFFER_BYTES = 8192       -- for results of a task that has not ended
local START_FAILURES = 5        -- workers in a row that do not become ready, while none is ready: then calls report why
local FIRST_PAUSE, LONGEST_PAUSE = 0.04, 2 -- seconds from the second such failure to the next start
local TAKES_MOST = 2            -- deaths between the taking of an item and its claim that do not count
local SIGKILL = 9

--- Sends a signal, unless the worker is still being started.
local function signal(w, number)
    local child = process.child_of(w.process)
    if child then core.child_signal(child, number) end
end

--- The error for its death.
local function death_of(w, message)
    local code = w.exitcode or 0
    local how = code < 0 and ("signal %d"):format(-code) or ("exit code %d"):format(code)
    return {
        kind = "worker_died", message = message:format(how), pid = w.process.pid,
        signal = code < 0 and -code or nil, exitcode = code >= 0 and code or nil,
    }
end

local watch

--- Starts the worker at a place.
function workers.start(pool, index)
    local buffer = pool.buffers[index] or mp.RawArray("B", BUFFER_BYTES)
    pool.buffers[index] = buffer
    local w = { index = index, buffer = buffer, ready = false }
    w.process = process.Process{
        target = worker.main,
        args = { index, pool.inbox, pool.outbox, pool.control, buffer, pool.functions, pool.initializer,
            pool.initargs, pool.maxtasks, n = 9 },
        name = "PoolWorker-" .. pool.next_name, daemon = true, worker = true, method = pool.method,
    }
    pool.next_name = pool.next_name + 1
    pool.workers[index] = w
    pool.alive, pool.unready = pool.alive + 1, pool.unready + 1
    local ok, why = pcall(w.process.start, w.process)
    if not ok then
        pool.workers[index] = nil
        pool.alive, pool.unready = pool.alive - 1, pool.unready - 1
        error(why, 0)
    end
    core.spawn(watch, pool, w)
    if pool.terminated then signal(w, SIGKILL) end -- terminated in the meantime
end

local function free_index(pool)
    for index = 1, pool.size do
        if not pool.workers[index] then return index end
    end
end

local not_ready

--- Starts one more worker if the pool needs more and is not waiting to try again.
local function start_one(pool)
    local index = not pool.terminated and not pool.pausing and free_index(pool)
    if not index then return false end
    local ok, why = pcall(workers.start, pool, index)
    if not ok then not_ready(pool, { kind = "error", message = errors.message(why) }, true) end
    return ok
end

--- There are more tasks than workers.
function workers.start_more(pool)
    while pool.outstanding > pool.alive and start_one(pool) do end
end

--- Starts the missing workers, one by one, between the other tasks of this process.
local function start_all(pool)
    while not pool.closed and start_one(pool) do core.sleep(0) end
end

--- A worker is ready: it has begun to take tasks.
local function is_ready(pool, w)
    w.ready = true
    pool.unready = pool.unready - 1
    pool.start_failures, pool.pauses, pool.trouble = 0, nil, nil
    if pool.alive < pool.size and not pool.closed then core.spawn(start_all, pool) end
end

--- Checks a worker that has sent no message. Its control word says whether it is ready; its first
--- message says so too, but the worker may die before it sends that.
local function look_at(pool, w)
    if not w.ready and core.pool_is_ready(pool.control, w.index) then is_ready(pool, w) end
    return w.ready
end

--- Handles a message of a worker: it is ready, or its initializer has failed.
function workers.news(pool, what, index, report)
    local w = pool.workers[index]
    if not w then return end
    if what == "failed" then
        report.kind = "error"
        w.report = report
    elseif not w.ready then
        is_ready(pool, w)
    end
end

local function none_is_ready(pool)
    for _, w in pairs(pool.workers) do
        if look_at(pool, w) then return false end
    end
    return true
end

--- Tries again, one worker at a time, with growing delays.
local function try_again(pool)
    if pool.pausing then return end
    pool.pausing = true
    core.spawn(function()
        if pool.start_failures > 1 then
            pool.pauses = pool.pauses or restart.pauses(FIRST_PAUSE, LONGEST_PAUSE)
            core.sleep(pool.pauses:take())
        end
        pool.pausing = false
        if pool.closed and pool.trouble then return schedule.give_up(pool) end
        start_one(pool)
        schedule.feed(pool)
    end)
end

--- A worker did not become ready. While other workers are ready, nothing else happens. Otherwise
--- calls fail with the reason until one is: at once if the reason is certain, else after a few
--- failures.
function not_ready(pool, why, is_certain)
    pool.start_failures = pool.start_failures + 1
    if none_is_ready(pool) and (is_certain or pool.start_failures >= START_FAILURES) then
        schedule.suspend(pool, why)
    end
    try_again(pool)
end

--- Settles the task of a dead worker: finished items keep their results, and other workers run
--- those that were not begun.
local function lose_task(pool, w, task)
    schedule.handle(pool, core.pool_salvage(w.buffer, w.index, task))
    local takes = task.void ~= "all" and task.job.takes or {}
    local taken = takes[task.first] or 0
    schedule.reclaim(pool, task, taken >= TAKES_MOST and 1 or 0)
    local job, first, got, count, void = task.job, task.first, task.got, task.count, task.void
    schedule.forget(pool, task)
    if void == "all" then return end
    if count == 0 then -- while it read the item, perhaps, so not forever
        takes[first], job.takes = taken + 1, takes
    end
    for i = got, count - 1 do -- one at most
        if i ~= void then
            schedule.lose(pool, job, first + i, death_of(w, "the worker died (%s) while it ran the task"))
        end
    end
end

--- Starts a new worker in place of one that has exited.
local function replace(pool, w)
    if w.ready or w.retiring then
        start_one(pool)
    else
        not_ready(pool, w.report or death_of(w, "pool: workers die before they are ready (%s)"), w.report ~= nil)
    end
end

--- A task of the pool's process for each worker: waits for its exit.
function watch(pool, w)
    w.process:join()
    w.exitcode = w.process.exitcode -- which may let other tasks run; nothing below does
    if not pool.terminated then
        schedule.drain(pool) -- messages it had still sent
        local number = core.pool_lease(pool.inbox, pool.control, w.index)
        local task = number and schedule.find(pool, number)
        if task then lose_task(pool, w, task) end
    end
    look_at(pool, w)
    pool.alive = pool.alive - 1
    if not w.ready then pool.unready = pool.unready - 1 end
    pool.workers[w.index] = nil
    core.pool_forget(pool.control, w.index, w.buffer)
    if not pool.terminated then
        local over = pool.closed and pool.outstanding == 0 and pool.last_job < pool.first_job
        if not over then replace(pool, w) end
        schedule.feed(pool)
    elseif pool.alive == 0 then
        pool.inbox:close()
        pool.outbox:close()
    end
    pool.changed:wake()
end

--- Changes the number of workers to n: starts more; those above n end when they have no task.
function workers.resize(pool, n)
    pool.size = n
    for index, w in pairs(pool.workers) do
        if index > n and not w.retiring then
            w.retiring = true
            signal(w, core.pool_retire(pool.control, index))
        end
    end
    schedule.feed(pool)
    while start_one(pool) do end
end

function workers.kill_all(pool)
    for _, w in pairs(pool.workers) do signal(w, SIGKILL) end
end

--- Resident bytes of a process, nil when it is gone.
local function memory_of(pid)
    local f = io.open(("/proc/%d/status"):format(pid))
    if not f then return nil end
    local kib = f:read("a"):match("VmRSS:%s*(%d+)")
    f:close()
    return kib and tonumber(kib) * 1024
end

--- The state of each worker.
function workers.stats(pool)
    local list, by_number = {}, {}
    for _, task in ipairs(pool.tasks) do
        if task.job then by_number[task.number] = task end
    end
    for index, w in pairs(pool.workers) do
        local number, age = core.pool_lease(pool.inbox, pool.control, index)
        local tasks, busy = core.pool_counts(pool.control, index)
        local is_busy = number and by_number[number] ~= nil
        list[#list + 1] = {
            index = index, pid = w.process.pid, name = w.process.name,
            state = is_busy and "busy" or w.ready and "idle" or "starting",
            task = is_busy and number or nil, seconds = is_busy and age or nil,
            tasks = tasks, busy = busy, memory = w.process.pid and memory_of(w.process.pid),
        }
    end
    table.sort(list, function(a, b) return a.index < b.index end)
    return list
end

return workers
