--- Stopping tasks of a pool, by their timeout or because they are cancelled. An error is raised in
--- the running item; if it still runs a while later, its worker is killed. The reason of the stop
--- is the item's outcome at once; any later outcome is dropped.
local core = require "mpengine.core"
local process = require "mpengine.process"
local schedule = require "mpengine.pool.schedule"

local stop = {}

local SHORTEST_NAP = 0.001 -- between two checks of the running items
local GRACE_SECONDS = 0.5 -- from the error raised in a stopped item to the kill of its worker
local SIGKILL = 9

--- Stops an item that a worker runs; returns whether it was running.
local function stop_item(pool, w, number, item)
    local signal = core.pool_stop(pool.control, w.index, number, item)
    if not signal then return false end
    local child = process.child_of(w.process)
    core.child_signal(child, signal)
    core.spawn(function()
        core.sleep(GRACE_SECONDS)
        if pool.workers[w.index] == w and core.pool_doom(pool.control, w.index, number, item) then
            core.child_signal(child, SIGKILL)
        end
    end)
    return true
end

-- ---- timeouts ----

--- Ends an item that has run too long. The items after it go to other workers.
local function time_out(pool, w, task, item)
    local job, index = task.job, task.first + item
    if not stop_item(pool, w, task.number, item) then return end
    task.void = item
    schedule.set_aside(task)
    schedule.reclaim(pool, task)
    schedule.lose(pool, job, index, {
        kind = "timeout", message = ("the task took longer than %g s"):format(job.timeout), pid = w.process.pid,
    })
end

--- Stops items that are over their time; returns the seconds until the next check, nil when no item
--- has a timeout.
local function look(pool)
    local by_number, nap = {}, nil
    for _, task in ipairs(pool.tasks) do
        local timeout = task.job and task.job.timeout
        if timeout then
            by_number[task.number] = task
            nap = math.min(nap or timeout, timeout)
        end
    end
    for index, w in pairs(pool.workers) do
        local number, item, age = core.pool_running(pool.control, index)
        local task = number and by_number[number]
        if task and task.void == nil then
            local left = task.job.timeout - age
            if left > 0 then nap = math.min(nap, left) else time_out(pool, w, task, item) end
        end
    end
    return nap
end

local function monitor(pool)
    while not pool.terminated do
        pool.monitor:wait(math.max(0, pool.next_look - core.now()))
        if pool.terminated then break end
        local nap = look(pool)
        if not nap then break end
        pool.next_look = core.now() + math.max(nap, SHORTEST_NAP)
        schedule.feed(pool)
    end
    pool.monitor = nil
end

--- A task with a timeout is on the queue.
function stop.watch_timeout(pool, timeout)
    local at = core.now() + timeout
    if pool.monitor then
        if at < pool.next_look then
            pool.next_look = at
            pool.monitor:wake()
        end
        return
    end
    pool.monitor, pool.next_look = core.waitlist(), at
    core.spawn(monitor, pool)
end

-- ---- cancelling ----

--- A job is no longer wanted: queued items do not run, running items are stopped.
function stop.cancel(pool, job)
    job.ops.abandon(job, nil)
    local by_number
    for _, task in ipairs(pool.tasks) do
        if task.job == job and task.void ~= "all" then
            schedule.void(pool, task)
            by_number = by_number or {}
            by_number[task.number] = true
        end
    end
    if by_number then
        for index, w in pairs(pool.workers) do
            local number, item = core.pool_running(pool.control, index)
            if number and by_number[number] then stop_item(pool, w, number, item) end
        end
    end
    schedule.feed(pool)
end

return stop
