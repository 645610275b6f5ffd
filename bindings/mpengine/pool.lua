--- mp.Pool: a set of worker processes that run functions. The parent schedules: it puts tasks into
--- one queue that the idle workers take from, so no task waits behind a long one while a worker is
--- idle, and it knows from the control words (lpool.c) which task died with a worker.
local mp = require "mpengine"
local core = require "mpengine.core"
local process = require "mpengine.process"
local errors = require "mpengine.errors"
local Result = require "mpengine.pool.result"
local jobs = require "mpengine.pool.jobs"
local imap = require "mpengine.pool.imap"
local options = require "mpengine.pool.options"
local worker = require "mpengine.pool.worker"

local CAPACITY = options.CAPACITY
local RING = 16384              -- tasks that can be in the queue or running
local GRACE_SECONDS = 0.5       -- from the error raised in a stopped task to the kill of its worker
local STEAL_SECONDS = 0.005     -- after which unclaimed items of a chunk go to idle workers
local START_FAILURES = 3        -- workers that die before they are ready, in a row
local FUNCTIONS_MAX = 256
local SIGKILL = 9

local Pool = { __name = "mp.Pool" }
Pool.__index = Pool

-- ---- workers ----

local handle_notice

--- Starts the worker at a place.
local function start_worker(pool, index)
    local p = process.Process{
        target = worker.main,
        args = { index, pool.inbox, pool.outbox, pool.control, pool.functions, pool.initializer,
            pool.initargs, pool.maxtasks, n = 8 },
        name = "PoolWorker-" .. pool.next_name, daemon = true, worker = true, method = pool.method,
    }
    pool.next_name = pool.next_name + 1
    p:start()
    local w = { index = index, process = p, ready = false, done = 0, busy = 0 }
    pool.workers[index] = w
    pool.alive = pool.alive + 1
    core.spawn(pool.watch, pool, w)
end

local function end_of(p)
    local code = p.exitcode
    if code and code < 0 then return { signal = -code }, ("signal %d"):format(-code) end
    return { exitcode = code }, ("exit code %d"):format(code or 0)
end

--- The task that a dead worker had taken and not given a result for.
local function task_of(pool, w)
    local number = core.pool_lease(pool.inbox, pool.control, w.index)
    local task = number and pool.by_number[number]
    return task
end

local function forget(pool, task)
    pool.tasks[task.id] = nil
    pool.by_number[task.number] = nil
    pool.outstanding = pool.outstanding - 1
end

--- Runs a lost task again, if it may be.
local function retry(pool, task, surplus)
    local job = task.job
    if task.tries >= job.retries and not surplus then return false end
    if job.mode == worker.APPLY then
        job.open = true
        job.tries = task.tries + 1
    else
        for i = task.first, task.first + task.count - 1 do job.tries[i] = task.tries + 1 end
        job:give_back(task.first, task.first + task.count - 1)
    end
    pool:enqueue(job, true)
    return true
end

--- What is left of a task whose worker has died.
local function lose(pool, w, task)
    local claimed = core.pool_reclaim(pool.control, task.number)
    forget(pool, task)
    if task.stopping then return end
    if claimed < task.count then -- those were not run: they stay with their job
        if task.job.give_back then
            task.job:give_back(task.first + math.max(claimed, 0), task.first + task.count - 1)
            pool:enqueue(task.job, true)
        end
        task.count = claimed
        if claimed == 0 then
            if task.job.mode == worker.APPLY then
                task.job.open = true
                pool:enqueue(task.job, true)
            end
            return
        end
    end
    if retry(pool, task, w.surplus) then return end
    local fields, how = end_of(w.process)
    fields.kind, fields.pid = "worker_died", w.process.pid
    fields.message = ("the worker died (%s) while it ran the task"):format(how)
    task.job:failed(task, fields)
end

--- Fails everything that is queued or running.
local function fail_all(pool, fields)
    local list = pool.jobs
    pool.jobs, pool.first_job, pool.last_job = {}, 1, 0
    local seen = {}
    for _, task in pairs(pool.tasks) do
        if not task.stopping then task.job:failed(task, fields) end
        seen[task.job] = true
    end
    pool.tasks, pool.by_number, pool.outstanding = {}, {}, 0
    for _, job in pairs(list) do seen[job] = true end
    for job in pairs(seen) do
        while true do
            local task = job:next(pool)
            if not task then break end
            job:failed(task, fields)
        end
    end
    pool.changed:wake()
end

--- A pool whose workers cannot start fails all calls with the reason.
local function break_pool(pool, fields)
    if pool.failure then return end
    pool.failure = fields
    pool.inbox:close()
    fail_all(pool, fields)
end

local function replace(pool, w, retired)
    if not w.ready and not retired then
        pool.start_failures = pool.start_failures + 1
        if pool.start_failures >= START_FAILURES then
            local fields, how = end_of(w.process)
            fields.kind = "worker_died"
            fields.message = ("pool: workers die before they are ready (%s)"):format(how)
            return break_pool(pool, fields)
        end
    end
    if w.index <= pool.size then
        local ok, why = pcall(start_worker, pool, w.index)
        if not ok then break_pool(pool, { kind = "error", message = errors.message(why) }) end
    end
end

--- A task of the parent per worker: sees to its end.
local function watch(pool, w)
    w.process:join()
    if pool.terminated then
        pool.alive = pool.alive - 1
        pool.changed:wake()
        return
    end
    repeat until not pool:handle(core.receive(pool.outbox, 0)) -- what it has still sent
    local task = task_of(pool, w)
    pool.alive = pool.alive - 1
    pool.workers[w.index] = nil
    core.pool_forget(pool.control, w.index)
    if task then lose(pool, w, task) end
    local over = pool.closed and pool.outstanding == 0 and pool.last_job < pool.first_job
    if not over and not pool.failure and not pool.terminated then replace(pool, w, w.retired) end
    pool:feed()
    pool.changed:wake()
end

-- ---- the flow of tasks ----

--- Puts a job where feed() finds it.
function Pool:enqueue(job, in_front)
    if job.queued then return end
    job.queued = true
    if in_front then
        self.first_job = self.first_job - 1
        self.jobs[self.first_job] = job
    else
        self.last_job = self.last_job + 1
        self.jobs[self.last_job] = job
    end
end

local function put(pool, task)
    pool.last_id = pool.last_id + 1
    task.id = pool.last_id
    task.number = task.job:put(pool, task)
    pool.tasks[task.id] = task
    pool.by_number[task.number] = task
    pool.outstanding = pool.outstanding + 1
    if task.timeout then pool:monitor_timeouts(task.timeout) end
end

local start_stealing

--- Keeps the queue filled with tasks of the jobs, in their order.
function Pool:feed()
    local limit = 64 + 16 * self.size
    while self.outstanding < limit and self.first_job <= self.last_job do
        local job = self.jobs[self.first_job]
        local task = job:next(self)
        if task then
            if job.tries and job.mode == worker.APPLY then task.tries = job.tries end
            local ok, why = pcall(put, self, task)
            if not ok then
                job:failed(task, { kind = "error", message = errors.message(why), value = why })
            end
        else
            self.jobs[self.first_job] = nil
            self.first_job = self.first_job + 1
            job.queued = false
        end
    end
    if self.first_job > self.last_job then
        if self.outstanding > 0 then
            start_stealing(self)
        elseif self.closed then
            self.inbox:close()
        end
    end
end

--- Idle workers get what is unclaimed in the chunks of the others.
local function steal(pool)
    pool.stealing = false
    if pool.terminated or pool.inbox:qsize() > 0 or pool.outstanding >= pool.size then return end
    local taken = false
    for _, task in pairs(pool.tasks) do
        if task.count > 1 then
            local claimed = core.pool_reclaim(pool.control, task.number)
            if claimed < task.count then
                taken = true
                task.job:give_back(task.first + claimed, task.first + task.count - 1)
                task.count = claimed
                if claimed == 0 then forget(pool, task) end
                pool:enqueue(task.job, true)
            end
        end
    end
    if taken then pool:feed() end
end

function start_stealing(pool)
    if pool.stealing then return end
    local chunks = false
    for _, task in pairs(pool.tasks) do
        if task.count > 1 then
            chunks = true
            break
        end
    end
    if not chunks then return end
    pool.stealing = true
    core.spawn(function()
        core.sleep(STEAL_SECONDS)
        steal(pool)
        if not pool.terminated and pool.outstanding > 0 then start_stealing(pool) end
    end)
end

local function handle_result(pool, id, elapsed, ...)
    local task = pool.tasks[id]
    if not task then return end
    forget(pool, task)
    task.elapsed = elapsed
    pool.completed = pool.completed + 1
    if not task.stopping then task.job:done(task, ...) end
end

--- A message of the outbox; true when there was one.
function Pool:handle(id, elapsed, ...)
    if not id then return false end
    if id == 0 then
        handle_notice(self, ...)
    else
        handle_result(self, id, elapsed, ...)
    end
    return true
end

function handle_notice(pool, what, index, report)
    local w = pool.workers[index]
    if what == worker.INIT_FAILED then
        report.kind = "error"
        break_pool(pool, report)
    elseif what == worker.READY then
        if w then w.ready = true end
        pool.start_failures = 0
    elseif what == worker.RETIRED then
        if w then w.retired = true end
    end
end

--- The parent's task that receives results.
local function pump(pool)
    while not pool.terminated do
        if not pool:handle(core.receive(pool.outbox)) then break end
        local n = 1
        while n < 64 and pool:handle(core.receive(pool.outbox, 0)) do n = n + 1 end
        if not pool.terminated then pool:feed() end
    end
end

-- ---- stopping tasks ----

--- Stops a running task: an error is raised in it, and after a while its worker is killed.
local function stop_task(pool, task)
    for index, w in pairs(pool.workers) do
        local number = core.pool_lease(pool.inbox, pool.control, index)
        if number == task.number then
            task.stopping = true
            local child = process.child_of(w.process)
            core.child_signal(child, core.pool_stop(pool.control, index, task.number))
            core.spawn(function()
                core.sleep(GRACE_SECONDS)
                if pool.tasks[task.id] == task and not pool.terminated then
                    core.child_signal(child, SIGKILL)
                end
            end)
            return true
        end
    end
    return false
end

--- Looks after tasks with a timeout, while there are any.
function Pool:monitor_timeouts(timeout)
    if self.monitor then
        if self.next_check > core.now() + timeout then self.monitor:wake() end
        return
    end
    self.monitor = core.waitlist()
    self.next_check = core.now() + timeout
    core.spawn(function()
        while not self.terminated do
            self.monitor:wait(math.max(0, self.next_check - core.now()))
            local nap
            for _, task in pairs(self.tasks) do
                if task.timeout and not task.stopping then
                    nap = math.min(nap or math.huge, task.timeout)
                end
            end
            for index in pairs(self.workers) do
                local number, age = core.pool_lease(self.inbox, self.control, index)
                local task = number and self.by_number[number]
                if task and task.timeout and not task.stopping then
                    local left = task.timeout - age
                    if left > 0 then
                        nap = math.min(nap, left)
                    elseif stop_task(self, task) and not retry(self, task) then
                        task.job:failed(task, {
                            kind = "timeout", message = ("the task took longer than %g s"):format(task.timeout),
                        })
                    end
                end
            end
            if not nap then break end
            self.next_check = core.now() + nap
        end
        self.monitor = nil
    end)
end

local function cancel_apply(pool, job)
    job:cancel()
    for _, task in pairs(pool.tasks) do
        if task.job == job then
            if core.pool_reclaim(pool.control, task.number) == 0 then
                forget(pool, task)
            elseif not stop_task(pool, task) then
                return false
            end
        end
    end
    pool:feed()
    return true
end

local function cancel_map(pool, job)
    job:cancel()
    for _, task in pairs(pool.tasks) do
        if task.job == job and not task.stopping then
            if core.pool_reclaim(pool.control, task.number) == 0 then
                forget(pool, task)
            else
                stop_task(pool, task)
                task.stopping = true
            end
        end
    end
    pool:feed()
    return true
end

-- ---- calls ----

local function check(pool, call, f)
    if getmetatable(pool) ~= Pool then
        error(("bad argument #1 to '%s' (mp.Pool expected, got %s)"):format(call, type(pool)), 3)
    end
    if pool.owner ~= core.pid() then
        error(call .. ": the pool belongs to another process", 3)
    end
    if pool.closed then error(call .. ": the pool is closed", 3) end
    if type(f) ~= "function" then
        error(("bad argument #1 to '%s' (function expected, got %s)"):format(call, type(f)), 3)
    end
    if pool.failure then error(errors.new(pool.failure), 0) end
end

--- The number under which workers find a function or shared value; sent at most once to each.
local function publish(pool, call, what, value)
    local bytes = errors.at(4, core.encode_value, call, what, value)
    local id = pool.published[bytes]
    if id then return id end
    if pool.published_count >= FUNCTIONS_MAX and pool.outstanding == 0 then
        pool.published, pool.published_count = {}, 0
        pool.functions:clear()
    end
    id = pool.next_function
    pool.next_function = id + 1
    pool.functions:set(id, value)
    pool.published[bytes] = id
    pool.published_count = pool.published_count + 1
    return id
end

--- pool:apply_async(f, args [, opts]) -> AsyncResult. What cannot be sent raises here.
function Pool:apply_async(f, args, opts)
    check(self, "apply_async", f)
    if args ~= nil and type(args) ~= "table" then
        error(("bad argument #2 to 'apply_async' (args: a table expected, got %s)"):format(type(args)), 2)
    end
    opts = options.call("apply_async", opts)
    args = args or {}
    local n = args.n or #args
    local job
    local result = Result.new(opts, function(r)
        if not cancel_apply(self, job) then return false end
        r:set_error{ kind = "cancelled", message = "the task was cancelled" }
        return true
    end)
    job = jobs.apply(publish(self, "apply_async", "function", f), { n = n, table.unpack(args, 1, n) }, result, opts)
    if self.outstanding < RING - 1 and self.first_job > self.last_job then
        job.open = false
        errors.at(3, put, self, { job = job, first = 1, count = 1, tries = 0, timeout = job.timeout })
    else
        job.args = table.pack(core.decode_args(errors.at(3, core.encode_args, "apply_async", 0,
            table.unpack(job.args, 1, n)))) -- as they are now
        self:enqueue(job)
        self:feed()
    end
    return result
end

--- pool:apply(f, args) -> the results of f; raises its error.
function Pool:apply(f, args)
    check(self, "apply", f)
    return self:apply_async(f, args):get()
end

--- The common part of the maps that give a list: an AsyncResult of it.
local function map_async(pool, call, f, list, opts, star)
    check(pool, call, f)
    if type(list) ~= "table" then
        error(("bad argument #2 to '%s' (table expected, got %s)"):format(call, type(list)), 3)
    end
    opts = options.call(call, opts)
    local n = #list
    local values, left, first_error, first_index = {}, n, nil, math.huge
    local job
    local result = Result.new(opts, function(r)
        cancel_map(pool, job)
        r:set_error{ kind = "cancelled", message = "the map was cancelled" }
        return true
    end)
    local function deliver(index, value, err)
        values[index] = value
        if err and index < first_index then first_error, first_index = err, index end
        left = left - 1
        if left > 0 then return end
        if first_error then result:set_error(first_error) else result:set(values) end
    end
    local f_id = publish(pool, call, "function", f)
    if n == 0 then
        result:set(values)
        return result
    end
    job = jobs.map(f_id, list, n, n, {
        chunksize = opts.chunksize, timeout = opts.timeout, retries = opts.retries, star = star, where = call,
        shared_id = opts.shared ~= nil and publish(pool, call, "shared", opts.shared) or nil,
        progress = opts.progress,
    }, deliver)
    pool:enqueue(job)
    pool:feed()
    return result
end

--- pool:map(f, list [, opts]) -> list of results in order; raises the error of the first item that failed.
function Pool:map(f, list, opts) return map_async(self, "map", f, list, opts):get() end
function Pool:starmap(f, list, opts) return map_async(self, "starmap", f, list, opts, true):get() end

local function copied(list) return type(list) == "table" and table.move(list, 1, #list, 1, {}) or list end

function Pool:map_async(f, list, opts) return map_async(self, "map_async", f, copied(list), opts) end
function Pool:starmap_async(f, list, opts) return map_async(self, "starmap_async", f, copied(list), opts, true) end

local function imap_with(pool, call, f, source, opts, ordered)
    check(pool, call, f)
    opts = options.call(call, opts)
    local chunksize = opts.chunksize or 1
    return imap.iterator(pool, call, source, chunksize, ordered, function(items, deliver)
        return jobs.map(publish(pool, call, "function", f), items, nil, 0, {
            chunksize = chunksize, timeout = opts.timeout, retries = opts.retries, where = call,
            shared_id = opts.shared ~= nil and publish(pool, call, "shared", opts.shared) or nil,
            progress = opts.progress,
        }, deliver)
    end)
end

--- for i, v in pool:imap(f, list or iterator [, opts]): in order, as they come.
function Pool:imap(f, source, opts) return imap_with(self, "imap", f, source, opts, true) end

--- for i, v in pool:imap_unordered(f, list or iterator [, opts]): i is the item's index.
function Pool:imap_unordered(f, source, opts) return imap_with(self, "imap_unordered", f, source, opts, false) end

-- ---- the pool itself ----

--- No more tasks; the workers end when those that are there are done.
function Pool:close()
    if self.closed then return end
    self.closed = true
    if self.outstanding == 0 and self.first_job > self.last_job then self.inbox:close() end
end

--- Ends the workers at once; unfinished tasks fail with kind "terminated".
function Pool:terminate()
    if self.terminated then return end
    self.closed, self.terminated = true, true
    self.inbox:close()
    for _, w in pairs(self.workers) do core.child_signal(process.child_of(w.process), SIGKILL) end
    fail_all(self, { kind = "terminated", message = "the pool was terminated" })
    self.outbox:close()
end

--- Waits until the workers have ended. Raises before close or terminate.
function Pool:join()
    if not self.closed then error("join: the pool is still open (close or terminate it first)", 2) end
    while self.alive > 0 do self.changed:wait() end
    if not self.terminated then
        self.terminated, self.joined = true, true
        self.outbox:close()
    end
end

--- Changes the number of workers; those that are too many end after their task.
function Pool:resize(n)
    if math.type(n) ~= "integer" or n < 1 or n > CAPACITY then
        error(("bad argument #1 to 'resize' (number of workers from 1 to %d expected)"):format(CAPACITY), 2)
    end
    if self.closed then error("resize: the pool is closed", 2) end
    self.size = n
    for index = 1, n do
        if not self.workers[index] then start_worker(self, index) end
    end
    for index, w in pairs(self.workers) do
        if index > n then
            w.surplus = true
            core.pool_retire(self.control, index)
            if not task_of(self, w) then core.child_signal(process.child_of(w.process), SIGKILL) end
        end
    end
end

--- What the pool and its workers are doing.
function Pool:stats()
    local list = {}
    for index, w in pairs(self.workers) do
        local task = task_of(self, w)
        local _, age = core.pool_lease(self.inbox, self.control, index)
        list[#list + 1] = {
            index = index, pid = w.process.pid, name = w.process.name,
            state = task and "busy" or (w.ready and "idle" or "starting"),
            task = task and task.id, seconds = task and age,
        }
    end
    table.sort(list, function(a, b) return a.index < b.index end)
    return {
        workers = list, outstanding = self.outstanding, completed = self.completed,
        queued = self.inbox:qsize(), closed = self.closed or false,
    }
end

Pool.__close = Pool.terminate

function Pool:__tostring()
    local state = self.joined and "ended" or self.terminated and "terminated" or self.closed and "closed" or "running"
    return ("mp.Pool: %p (%d workers, %d tasks, %s)"):format(self, self.alive, self.outstanding, state)
end

-- ---- making ----

--- mp.Pool(n) or mp.Pool{ processes =, initializer =, initargs =, maxtasksperchild = }
local function new(first, ...)
    local n, opts = options.pool(first, ...)
    local control = mp.RawArray("Q", 1 + 3 * CAPACITY + RING)
    control[1] = CAPACITY
    local pool = setmetatable({
        size = n, initializer = opts.initializer, initargs = opts.initargs or {}, maxtasks = opts.maxtasksperchild,
        inbox = mp.Queue(), outbox = mp.Queue(), control = control, functions = mp.Dict(),
        workers = {}, alive = 0, next_name = 1, start_failures = 0,
        tasks = {}, by_number = {}, last_id = 0, outstanding = 0, completed = 0,
        jobs = {}, first_job = 1, last_job = 0,
        published = {}, published_count = 0, next_function = 1,
        changed = core.waitlist(), owner = core.pid(), watch = watch, method = mp.get_start_method(),
    }, Pool)
    local ok, why = pcall(function()
        for index = 1, n do start_worker(pool, index) end
    end)
    if not ok then
        pool:terminate()
        error(why, 0)
    end
    core.spawn(pump, pool)
    return pool
end

return { Pool = new }
