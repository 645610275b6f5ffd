--- The tasks of remote pools that have not ended. They are submitted in batches; while any is outstanding one task of
--- this process reads the results, and now and then asks whether the server still knows those that are late: what
--- it has lost is submitted again.
---
--- A task of a pool is a table: pool, number, bytes of its message, its tail (tasks.lua), delay in ms until it
--- was submitted; done(task, bytes, from, to) gets the outcome in these bytes, done(task, nil, nil, nil, err) an error.
--- c.tasks has those of all pools of a client, by their numbers; a task is in it until it has ended.
local core = require "mpengine.core"
local envelope = require "mpengine.remote.envelope"
local errors = require "mpengine.errors"
local object = require "mpengine.remote.object"
local scripts = require "mpengine.remote.tasks"
require "mpengine.remote.mail"

local outstanding = {}

local BYTES <const> = 1 << 20 -- of the tasks of one script, unless one has more
local WINDOW <const> = 4      -- scripts that submit, sent before the first of them is answered
local HEADS <const> = 256     -- heads of tasks that are kept
local OVER <const> = 32       -- steps that are over, until the server is told
local PRIORITIES <const> = { high = 0, normal = 1, low = 2 }


function outstanding.run(pool, safe, script, ...)
    return pool.client:run(safe, script, pool.queue, pool.client.id, pool.client:lease_ms(), ...)
end

local function id_of(pool, number) return pool.client.id .. " " .. number end

local function ended(pool, number)
    pool.client.tasks[number] = nil
    pool.outstanding = pool.outstanding - 1
    if pool.outstanding == 0 then pool.changed:wake() end
end

--- The numbers of the outstanding tasks of a pool.
function outstanding.numbers(pool)
    local numbers = {}
    for number, task in pairs(pool.client.tasks) do
        if task.pool == pool then numbers[#numbers + 1] = number end
    end
    return numbers
end

--- Gives tasks their results. Those of tasks that have ended, or are no longer wanted, are dropped.
local function deliver(c, bytes)
    local at = 1
    while at <= #bytes do
        local number, size, first = string.unpack("<I8I4", bytes, at)
        local task = c.tasks[number]
        at = first + size
        if task then
            local pool = task.pool
            local from, why = core.envelope_open(pool.key, pool.place, number, bytes, first, at - 1)
            ended(pool, number)
            if from then
                task:done(bytes, from, at - 1)
            else
                task:done(nil, nil, nil, errors.new { kind = "error", message = "the result is refused: " .. why })
            end
        end
    end
end

--- What comes for all pools of a client.
local function listen(c)
    if c.tasks then return end
    c.tasks, c.last_task = {}, 0
    c:listen("result", function(words) deliver(c, words[4]) end)
    c:listen("died", function(words)
        local number = tonumber(words[4]:match " (%d+)$")
        local task = c.tasks[number]
        if not task then return end
        ended(task.pool, number)
        task:done(nil, nil, nil,
            errors.new { kind = "worker_died", message = "the worker is not heard of any more" })
    end)
end

--- The words of a step for the server, of those tasks that have not ended; made anew each time that they are sent, so
--- that a task that was cancelled meanwhile does not come back.
local function words_of(step)
    local pool = step.pool
    local c, again = pool.client, step.again and 1 or 0
    local words, n = { "", "", "", "", pool.queue, c.id, c:lease_ms(), step.number, step.over, again }, 10
    local group, count = nil, 0
    local tail, delay
    step.again = true
    for _, number in ipairs(step.numbers) do
        local task = c.tasks[number]
        if task then
            if task.tail ~= tail or task.delay ~= delay then
                if group then words[group] = count end
                tail, delay, group, count = task.tail, task.delay, n + 3, 0
                words[n + 1], words[n + 2], words[n + 3] = tail, delay or 0, 0
                n = n + 3
            end
            words[n + 1], words[n + 2] = id_of(pool, number), task.bytes
            n, count = n + 2, count + 1
            step.has_delay = step.has_delay or delay
        end
    end
    if group then words[group] = count end
    return words
end

local function has_any(c, numbers)
    for _, number in ipairs(numbers) do
        if c.tasks[number] then return true end
    end
    return false
end

--- A step that submits tasks; nil when all have ended. `again`: the server may know some of them.
local function step_of(pool, numbers, again)
    local c = pool.client
    if not has_any(c, numbers) then return nil end
    local taken = #c.ended >= OVER and c:take_over() or {}
    return { pool = pool, numbers = numbers, again = again, number = c:number(), taken = taken,
        over = table.concat(taken, " ") }
end

--- Submits the tasks of a step, or waits for the answer when it has been sent.
local function submit(step)
    local c = step.pool.client
    local ok, err = pcall(c.evaluate, c, true, scripts.SUBMIT, function() return words_of(step) end, step.reply)
    if not ok then
        c:untold(step.taken)
        error(err, 0)
    end
    c:over(step.number)
    for _, number in ipairs(step.has_delay and step.numbers or {}) do
        local task = c.tasks[number]
        if task then task.delay = nil end
    end
end

--- They cannot be submitted: each fails with the reason.
local function fail(pool, numbers, err)
    if not errors.is(err) then err = errors.new { kind = "error", message = tostring(err) } end
    for _, number in ipairs(numbers) do
        local task = pool.client.tasks[number]
        if task then
            ended(pool, number)
            task:done(nil, nil, nil, err)
        end
    end
end

local function submit_or_fail(step)
    local ok, err = pcall(submit, step)
    if not ok then fail(step.pool, step.numbers, err) end
end

--- The next tasks that go in one step, taken from those that wait.
local function take_batch(pool)
    local batch, bytes, out = {}, 0, pool.out
    for i = 1, math.min(scripts.MOST, out.last - out.first + 1) do
        local number = out[out.first]
        local task = pool.client.tasks[number]
        bytes = bytes + (task and #task.bytes or 0)
        if i > 1 and bytes > BYTES then break end
        batch[i] = number
        out[out.first] = nil
        out.first = out.first + 1
    end
    return batch
end

--- A step goes now, unless as many as may be are on their way.
local function begin(pool)
    local c = pool.client
    if pool.sending >= WINDOW or not c:may_begin(scripts.SUBMIT) then return end
    local step = step_of(pool, take_batch(pool))
    if not step then return end
    step.reply = c:begin(scripts.SUBMIT, words_of(step))
    pool.sending = pool.sending + 1
    table.insert(pool.begun, step)
end

--- Submits while other steps are on their way.
local function submit_beside(step)
    local pool = step.pool
    core.spawn(function()
        submit_or_fail(step)
        pool.sending = pool.sending - 1
        pool.sent:wake()
    end)
end

--- A task that submits what calls have asked for before it runs.
local function flush(pool)
    local out = pool.out
    while pool.begun[1] or out.first <= out.last do
        local step = table.remove(pool.begun, 1)
        if step then
            submit_beside(step)
        else
            while pool.sending >= WINDOW do pool.sent:wait() end
            step = step_of(pool, take_batch(pool))
            if step and out.first > out.last then
                submit_or_fail(step)
            elseif step then
                pool.sending = pool.sending + 1
                submit_beside(step)
            end
        end
    end
    pool.flushing = false
end

--- Submits again what the server does not know, and has not known one period ago: a result that was on its way has
--- come meanwhile.
local function look_for_lost(pool, numbers)
    local lost, ids, tasks = {}, {}, pool.client.tasks
    for i, number in ipairs(numbers) do ids[i] = id_of(pool, number) end
    for i, known in ipairs(outstanding.run(pool, true, scripts.CHECK, table.unpack(ids))) do
        local task = tasks[numbers[i]]
        if task and known == 1 then
            task.missed = nil
        elseif task and task.missed then
            lost[#lost + 1] = numbers[i]
        elseif task then
            task.missed = true
        end
    end
    local step = step_of(pool, lost, true)
    if step then submit(step) end
end

--- Looks for those that were outstanding at the last look: up to a number.
local function look_for_late(pool, last)
    local late = {}
    for _, number in ipairs(outstanding.numbers(pool)) do
        if number <= last then late[#late + 1] = number end
    end
    for first = 1, #late, scripts.MOST do
        look_for_lost(pool, table.move(late, first, math.min(#late, first + scripts.MOST - 1), 1, {}))
    end
end

--- The task that runs while any is outstanding.
local function pump(pool)
    local wait <close> = pool.client:wait() -- no message has its token
    local period = pool.client.lease / 3
    local next_look, last = core.now() + period, 0
    while pool.outstanding > 0 do
        pool.client:await(wait, next_look)
        if core.now() >= next_look and pool.outstanding > 0 then
            local from, newest = core.now(), pool.client.last_task
            pcall(look_for_late, pool, last)
            last = newest
            next_look = core.now() + math.max(period, 10 * (core.now() - from))
        end
    end
end

local function pump_all(pool)
    local ok, err = pcall(pump, pool)
    pool.pumping = nil
    if not ok then fail(pool, outstanding.numbers(pool), err) end
end

--- The tail of a task (tasks.lua).
local function tail_of(opts)
    return ("0 %d 0 %d %d"):format(opts.retries or 0, opts.retry_errors or 0, PRIORITIES[opts.priority or "normal"])
end

--- The head of a task's message. That of a call without options of its own is kept.
local function head_of(pool, name, opts, flags)
    local heads = opts == pool.opts and flags == 0 and not opts.expires and pool.heads
    local known = heads and heads[name]
    if known then return known end
    local head = envelope.head(flags, opts.timeout or 0, opts.expires and os.time() + opts.expires or 0, name)
    if heads then
        if pool.heads_count == HEADS then pool.heads, pool.heads_count = {}, 0 end
        pool.heads[name], pool.heads_count = head, pool.heads_count + 1
    end
    return head
end

--- Adds a task.
---@param task table with the methods and fields of one; gets the rest
---@return integer number
function outstanding.add(pool, call, name, args, opts, flags, task)
    local c = pool.client
    local number = c.last_task + 1
    task.bytes = object.seal(pool.key, pool.place, number, head_of(pool, name, opts, flags), pool.manager, call, args,
        "args")
    c.last_task = number
    task.pool, task.number = pool, number
    task.tail = opts == pool.opts and pool.tail or tail_of(opts)
    if opts.delay then task.delay = opts.delay * 1000 // 1 | 0 end
    c.tasks[number] = task
    pool.outstanding = pool.outstanding + 1
    local out = pool.out
    out.last = out.last + 1
    out[out.last] = number
    -- The first task goes at once, those that come until it is answered in steps.
    if not pool.flushing or out.last - out.first >= scripts.MOST - 1 then begin(pool) end
    if not pool.flushing then
        pool.flushing = true
        core.spawn(flush, pool)
    end
    if not pool.pumping then
        pool.pumping = true
        core.spawn(pump_all, pool)
    end
    return number
end

--- Tasks have no result from now on; workers that run them are told.
function outstanding.cancel(pool, numbers)
    local known = {}
    for _, number in ipairs(numbers) do
        if pool.client.tasks[number] then
            known[#known + 1] = id_of(pool, number)
            ended(pool, number)
        end
    end
    local c = pool.client
    for first = 1, #known, scripts.MOST do
        c:surely(true, scripts.CANCEL, pool.queue, c.id, c:lease_ms(),
            table.unpack(known, first, math.min(#known, first + scripts.MOST - 1)))
    end
end

--- The fields of a pool that the functions above use, added to what is there: manager, client, queue, key, opts.
function outstanding.new(pool)
    pool.place = ("%s/%s %s "):format(pool.manager.namespace, pool.queue, pool.client.id)
    pool.tail, pool.heads, pool.heads_count = tail_of(pool.opts), {}, 0
    pool.outstanding, pool.changed = 0, core.waitlist()
    pool.out = { first = 1, last = 0 } -- numbers to be submitted
    pool.begun, pool.sending, pool.sent = {}, 0, core.waitlist()
    listen(pool.client)
    return pool
end

return outstanding
