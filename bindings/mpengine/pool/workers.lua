--- The lives of a pool's workers: the first one is started with the pool, the others as soon as it is
--- ready or there are tasks for them; those that die are replaced.
local mp = require "mpengine"
local core = require "mpengine.core"
local process = require "mpengine.process"
local errors = require "mpengine.errors"
local schedule = require "mpengine.pool.schedule"
local worker = require "mpengine.pool.worker"

local workers = {}

local BUFFER_BYTES = 8192       -- of results of a task that is not over
local START_FAILURES = 5        -- workers that die before they are ready, in a row, while none is ready
local FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2 -- seconds from such a death to the next start
local SIGKILL = 9

--- Sends a signal, unless it is only being started.
local function signal(w, number)
    local child = process.child_of(w.process)
    if child then core.child_signal(child, number) end
end

local function end_of(p)
    local code = p.exitcode
    if code and code < 0 then return { signal = -code }, ("signal %d"):format(-code) end
    return { exitcode = code }, ("exit code %d"):format(code or 0)
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
    if pool.terminated then signal(w, SIGKILL) end -- meanwhile
end

local function free_index(pool)
    for index = 1, pool.size do
        if not pool.workers[index] then return index end
    end
end

--- Starts one more worker if the pool is to have more. What prevents it matters only to a pool
--- without workers.
local function start_one(pool)
    local index = not pool.terminated and not pool.failure and free_index(pool)
    if not index then return false end
    local ok, why = pcall(workers.start, pool, index)
    if not ok and pool.alive == 0 then
        schedule.break_pool(pool, { kind = "error", message = errors.message(why) })
    end
    return ok
end

--- There are more tasks than workers.
function workers.start_more(pool)
    while pool.outstanding > pool.alive and start_one(pool) do end
end

--- Starts those that are missing, one by one, between the other tasks of this process.
local function start_all(pool)
    while not pool.closed and start_one(pool) do core.sleep(0) end
end

--- What a worker tells: that it is ready, or that its initializer has failed.
function workers.news(pool, what, index, report)
    if what == "failed" then
        report.kind = "error"
        return schedule.break_pool(pool, report)
    end
    local w = pool.workers[index]
    if not w or w.ready then return end
    w.ready = true
    pool.unready = pool.unready - 1
    pool.start_failures = 0
    if pool.alive < pool.size and not pool.closed then core.spawn(start_all, pool) end
end

--- What is left of a task whose worker has died: what it had finished counts, what it had not begun
--- is run by others.
local function lose_task(pool, w, task)
    schedule.handle(pool, core.pool_salvage(w.buffer, w.index, task))
    schedule.reclaim(pool, task)
    local job, first, got, count, void = task.job, task.first, task.got, task.count, task.void
    schedule.forget(pool, task)
    if void == "all" then return end
    for i = got, count - 1 do -- one at most
        if i ~= void then
            local fields, how = end_of(w.process)
            fields.kind, fields.pid = "worker_died", w.process.pid
            fields.message = ("the worker died (%s) while it ran the task"):format(how)
            schedule.lose(pool, job, first + i, fields)
        end
    end
end

--- A new worker in the place of one that has ended. Those that die again and again before they are ready
--- are started ever more slowly while others work, and else end the pool.
local function replace(pool, w)
    if not w.ready and not w.retiring then
        local failures = pool.start_failures + 1
        pool.start_failures = failures
        if failures >= START_FAILURES and pool.alive == pool.unready then
            local fields, how = end_of(w.process)
            fields.kind = "worker_died"
            fields.message = ("pool: workers die before they are ready (%s)"):format(how)
            return schedule.break_pool(pool, fields)
        end
        if failures > 1 then core.sleep(math.min(FIRST_PAUSE * 2 ^ failures, LONGEST_PAUSE)) end
    end
    start_one(pool)
end

--- A task of the pool's process per worker: sees to its end.
function watch(pool, w)
    w.process:join()
    if not pool.terminated then
        schedule.drain(pool) -- what it has still sent
        local number = core.pool_lease(pool.inbox, pool.control, w.index)
        local task = number and schedule.find(pool, number)
        if task then lose_task(pool, w, task) end
    end
    pool.alive = pool.alive - 1
    if not w.ready then pool.unready = pool.unready - 1 end
    pool.workers[w.index] = nil
    core.pool_forget(pool.control, w.index, w.buffer)
    if not pool.terminated then
        local over = pool.closed and pool.outstanding == 0 and pool.last_job < pool.first_job
        if not over and not pool.failure then replace(pool, w) end
        schedule.feed(pool)
    end
    pool.changed:wake()
end

--- The workers are to be n: more are started, those above end when they have no task.
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

--- What each of them does.
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
