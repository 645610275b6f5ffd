--- The pool of a remote manager: its calls, and the tasks that are outstanding. Workers on any machine run
--- them (remote/worker.lua). Tasks are submitted in batches; while any is outstanding one task of this
--- process reads the results, and now and then asks whether the server still knows those that are late: what
--- it has lost is submitted again.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local core = require "mpengine.core"
local envelope = require "mpengine.remote.envelope"
local errors = require "mpengine.errors"
local functions = require "mpengine.remote.functions"
local object = require "mpengine.remote.object"
local outcome = require "mpengine.remote.outcome"
local Result = require "mpengine.pool.result"
local scripts = require "mpengine.remote.tasks"
require "mpengine.remote.mail"

local BATCH <const>, BYTES <const> = 256, 1 << 20 -- tasks of one script, and bytes, unless one has more

---@class mpengine.remote.Pool
local Pool = { __name = "mp.remote.Pool" }
local methods = {}
Pool.__index = methods

local PRIORITIES <const> = { high = 0, normal = 1, low = 2 }

-- ---- options ---------------------------------------------------------------------------------

local function is_count(v) return math.type(v) == "integer" and v >= 0 end
local function is_seconds(v) return type(v) == "number" and v >= 0 end

local SECONDS <const> = "a number of seconds, 0 or more"

local OPTIONS <const> = {
    callback = { check.is_callable, "a function" }, error_callback = { check.is_callable, "a function" },
    timeout = { is_seconds, SECONDS }, delay = { is_seconds, SECONDS }, expires = { is_seconds, SECONDS },
    retries = { is_count, "an integer, 0 or more" }, retry_errors = { is_count, "an integer, 0 or more" },
    priority = { function(v) return PRIORITIES[v] ~= nil end, "'high', 'normal' or 'low'" },
    chunksize = { function(v) return math.type(v) == "integer" and v >= 1 end, "an integer, 1 or more" },
    ahead = { function(v) return math.type(v) == "integer" and v >= 1 end, "an integer, 1 or more" },
    pack = { function(v) return type(v) == "boolean" end, "a boolean" },
    return_exceptions = { function(v) return type(v) == "boolean" end, "a boolean" },
    progress = { function(v) return type(v) == "boolean" or type(v) == "function" or v == "lines" end,
        "true, 'lines' or a function" },
}

local function set(...)
    local all = {}
    for _, name in ipairs { ... } do all[name] = true end
    return all
end

local of_pool <const> = set("timeout", "retries", "retry_errors", "priority", "expires")
local of_call <const> = set("timeout", "retries", "retry_errors", "priority", "expires", "delay", "callback",
    "error_callback")
local of_map <const> = set("timeout", "retries", "retry_errors", "priority", "expires", "callback", "error_callback",
    "chunksize", "ahead", "pack", "return_exceptions", "progress")

--- The options of a call on top of those of the pool.
local function merged(pool, call, opts, allowed)
    if opts == nil then return pool.opts end
    check.type(call, 3, opts, "table")
    local all = {}
    for name, value in pairs(pool.opts) do all[name] = value end
    for name, value in pairs(opts) do
        all[name] = value
        if not allowed[name] then errors.raise(("%s: unknown option '%s'"):format(call, tostring(name))) end
        if not OPTIONS[name][1](value) then
            errors.raise(("%s: option '%s' must be %s, got %s"):format(call, name, OPTIONS[name][2],
                type(value) == "number" and value or check.kind(value)))
        end
    end
    return all
end

-- ---- what is outstanding ---------------------------------------------------------------------

local function run(pool, safe, script, ...)
    return pool.client:run(safe, script, pool.queue, pool.client.id, pool.client:lease_ms(), ...)
end

local function ended(pool, token)
    if not pool.tasks[token] then return end
    pool.tasks[token] = nil
    pool.client.tasks[token] = nil
    pool.outstanding = pool.outstanding - 1
    if pool.outstanding == 0 then pool.changed:wake() end
end

--- A task has a result, or its worker is gone.
local function deliver(pool, token, text)
    local task = pool.tasks[token]
    ended(pool, token)
    if text == "d" then
        return task.done(nil, errors.new { kind = "worker_died", message = "the worker is not heard of any more" })
    end
    local bytes, why = envelope.open(pool.key, pool.place .. token, text:sub(2))
    if not bytes then
        return task.done(nil, errors.new { kind = "error", message = "the result is refused: " .. why })
    end
    task.done(bytes)
end

--- The results of all pools of a client.
local function listen(c)
    if c.tasks then return end
    c.tasks, c.last_task = {}, 0 -- number -> its pool
    c:listen("result", function(fields)
        for token, text in pairs(fields) do
            local pool = c.tasks[token]
            if pool then deliver(pool, token, text) end
        end
    end)
end

--- Submits tasks in one step.
local function submit(pool, tokens)
    local words = {}
    for _, token in ipairs(tokens) do
        local task = pool.tasks[token]
        if task then
            local n = #words
            words[n + 1], words[n + 2], words[n + 3] = token, task.priority, task.delay
            words[n + 4], words[n + 5], words[n + 6] = task.retries, task.retry_errors, task.bytes
            task.delay = 0
        end
    end
    if #words == 0 then return end
    local c = pool.client
    local number = c:number()
    c:telling_over(function(over) run(pool, true, scripts.SUBMIT, number, over, table.unpack(words)) end)
    c:over(number)
end

--- They cannot be submitted: each fails with the reason.
local function fail(pool, tokens, err)
    if not errors.is(err) then err = errors.new { kind = "error", message = tostring(err) } end
    for _, token in ipairs(tokens) do
        local task = pool.tasks[token]
        if task then
            ended(pool, token)
            task.done(nil, err)
        end
    end
end

--- The next tasks that go in one step.
local function batch_of(pool, tokens, first)
    local batch, bytes = {}, 0
    for i = first, math.min(#tokens, first + BATCH - 1) do
        local task = pool.tasks[tokens[i]]
        bytes = bytes + (task and #task.bytes or 0)
        if i > first and bytes > BYTES then break end
        batch[#batch + 1] = tokens[i]
    end
    return batch
end

--- A task that submits what calls have asked for before it runs.
local function flush(pool)
    while #pool.out > 0 do
        local tokens = pool.out
        pool.out = {}
        local first = 1
        while first <= #tokens do
            local batch = batch_of(pool, tokens, first)
            local ok, err = pcall(submit, pool, batch)
            if not ok then fail(pool, batch, err) end
            first = first + #batch
        end
    end
    pool.flushing = false
end

--- Submits again what the server does not know, and has not known one period ago: a result that was on its way has
--- come meanwhile.
local function look_for_lost(pool, tokens)
    local lost = {}
    for i, known in ipairs(run(pool, true, scripts.CHECK, table.unpack(tokens))) do
        local task = pool.tasks[tokens[i]]
        if task and known == 1 then
            task.missed = nil
        elseif task and task.missed then
            lost[#lost + 1] = tokens[i]
        elseif task then
            task.missed = true
        end
    end
    if #lost > 0 then submit(pool, lost) end
end

--- Looks for all that are outstanding for a period.
local function look_for_late(pool, period)
    local tokens, before = {}, core.now() - period
    for token, task in pairs(pool.tasks) do
        if task.since < before then tokens[#tokens + 1] = token end
    end
    for first = 1, #tokens, BATCH do
        look_for_lost(pool, table.move(tokens, first, math.min(#tokens, first + BATCH - 1), 1, {}))
    end
end

--- The task that runs while any is outstanding.
local function pump(pool)
    local wait <close> = pool.client:wait() -- no message has its token
    local period = pool.client.lease / 3
    local next_look = core.now() + period
    while pool.outstanding > 0 do
        pool.client:await(wait, next_look)
        if core.now() >= next_look and pool.outstanding > 0 then
            local from = core.now()
            pcall(look_for_late, pool, period)
            next_look = core.now() + math.max(period, 10 * (core.now() - from))
        end
    end
end

local function pump_all(pool)
    local ok, err = pcall(pump, pool)
    pool.pumping = nil
    if ok then return end
    local tokens = {}
    for token in pairs(pool.tasks) do tokens[#tokens + 1] = token end
    fail(pool, tokens, err)
end

--- Adds a task. done(bytes) or done(nil, err) is called once.
---@param flags { items: boolean?, star: boolean?, pack: boolean? }
---@return string token
local function add(pool, call, name, args, opts, flags, done)
    local c = pool.client
    local token = tostring(c.last_task + 1)
    local bytes = envelope.task {
        name = name, args = object.encode(pool.manager, call, args, "args"), timeout = opts.timeout,
        expires = opts.expires and os.time() + opts.expires, items = flags.items, star = flags.star, pack = flags.pack,
    }
    c.last_task = c.last_task + 1
    pool.tasks[token] = {
        bytes = envelope.seal(pool.key, pool.place .. token, bytes), priority = PRIORITIES[opts.priority or "normal"],
        delay = (opts.delay or 0) * 1000 // 1 | 0, retries = opts.retries or 0, retry_errors = opts.retry_errors or 0,
        done = done, since = core.now(),
    }
    c.tasks[token] = pool
    pool.outstanding = pool.outstanding + 1
    pool.out[#pool.out + 1] = token
    if not pool.flushing then
        pool.flushing = true
        core.spawn(flush, pool)
    end
    if not pool.pumping then
        pool.pumping = true
        core.spawn(pump_all, pool)
    end
    return token
end

local function cancel(pool, tokens)
    local known = {}
    for _, token in ipairs(tokens) do
        if pool.tasks[token] then
            known[#known + 1] = token
            ended(pool, token)
        end
    end
    local c = pool.client
    for first = 1, #known, BATCH do
        c:surely(true, scripts.CANCEL, pool.queue, c.id, c:lease_ms(),
            table.unpack(known, first, math.min(#known, first + BATCH - 1)))
    end
end

-- ---- calls -----------------------------------------------------------------------------------

local function check_pool(self, call)
    if getmetatable(self) ~= Pool then check.bad_self(call, Pool.__name, self) end
    local pool = self.pool
    if pool.owner ~= core.pid() then errors.raise(call .. ": the pool belongs to another process") end
    return pool
end

local function check_call(self, call, f)
    local pool = check_pool(self, call)
    if pool.closed then errors.raise(call .. ": the pool is closed") end
    return pool, functions.name(call, 1, f)
end

local NO_FLAGS <const> = {}

local function cancel_one(pool, result) cancel(pool, { result.token }) end

local function apply_async(self, call, f, args, opts)
    local pool, name = check_call(self, call, f)
    if args ~= nil then check.type(call, 2, args, "table") end
    args = args or {}
    local n = args.n or #args
    opts = merged(pool, call, opts, of_call)
    local result = Result.of { handle = self, cancel_with = cancel_one, callback = opts.callback,
        error_callback = opts.error_callback }
    local copy = table.move(args, 1, n, 1, { n = n })
    result.token = add(pool, call, name, copy, opts, NO_FLAGS, function(bytes, err)
        if err then return result:set_error(err) end
        outcome.settle(pool.manager, bytes, result)
    end)
    return result
end

--- Starts f(args): an AsyncResult.
---@param f function|string a function of a module, or "module.function"
---@param args? table
---@param opts? table callback, error_callback, timeout, retries, retry_errors, priority, delay, expires
function methods:apply_async(f, args, opts) return apply_async(self, "Pool:apply_async", f, args, opts) end

--- The results of f(args); raises its error.
function methods:apply(f, args, opts)
    local result <close> = apply_async(self, "Pool:apply", f, args, opts)
    return result:get()
end

local function state(pool)
    local s = run(pool, true, scripts.STATE)
    return { processes = s[1], workers = s[2], ready = s[3], delayed = s[4], dead = s[5],
        outstanding = pool.outstanding }
end

--- What the server knows: processes and workers that are alive, tasks that are ready, delayed and dead.
function methods:stats() return state(check_pool(self, "Pool:stats")) end

--- The processes of the workers, asked at most once a second.
local function slots(pool)
    if not pool.slots or core.now() - pool.slots_at > 1 then
        pool.slots, pool.slots_at = math.max(1, state(pool).processes), core.now()
    end
    return pool.slots
end

--- Starts f for each item of a list: `done(values, errs, n)` is called for each chunk.
function Pool.chunk(pool, call, name, items, n, opts, star, done)
    local flags = { items = true, star = star, pack = opts.pack }
    items.n = n
    return add(pool, call, name, items, opts, flags, function(bytes, err)
        done(outcome.chunk(pool.manager, bytes, err, items, n))
    end)
end

Pool.cancel, Pool.slots, Pool.merged, Pool.check_call = cancel, slots, merged, check_call
Pool.of_map = of_map

-- ---- the pool itself -------------------------------------------------------------------------

--- No more tasks.
function methods:close() check_pool(self, "Pool:close").closed = true end

--- No more tasks; the outstanding ones fail with kind "terminated".
function methods:terminate()
    local pool = check_pool(self, "Pool:terminate")
    pool.closed = true
    local tokens, tasks = {}, pool.tasks
    for token in pairs(tasks) do tokens[#tokens + 1] = token end
    local kept = {}
    for i, token in ipairs(tokens) do kept[i] = tasks[token] end
    local _ <close> = setmetatable({}, { __close = function() -- also without a server
        for _, task in ipairs(kept) do
            task.done(nil, errors.new { kind = "terminated", message = "the pool was terminated" })
        end
    end })
    cancel(pool, tokens)
end

--- Waits until all tasks have ended: true, or nil and "timeout". Raises before close or terminate.
---@param timeout? number seconds
function methods:join(timeout)
    local pool = check_pool(self, "Pool:join")
    check.timeout("Pool:join", 1, timeout)
    if not pool.closed then errors.raise("Pool:join: the pool is still open (close or terminate it first)") end
    local deadline = timeout and core.now() + timeout
    while pool.outstanding > 0 do
        local ok, why = pool.changed:wait(deadline and math.max(0, deadline - core.now()))
        if not ok and pool.outstanding > 0 then return nil, why end
    end
    return true
end

function Pool:__close()
    if self.pool.owner == core.pid() then self:terminate() end
end

function Pool:__tostring()
    local pool = self.pool
    return ("mp.remote.Pool: %s (%s, %d tasks)"):format(pool.queue, pool.client.address.shown, pool.outstanding)
end

--- Makes the pool of a manager: m:Pool{ queue = "default", … }, options of calls as defaults.
function Pool.open(manager, opts)
    if opts ~= nil then check.type("Manager:Pool", 1, opts, "table") end
    local own = {}
    for name, value in pairs(opts or {}) do own[name] = value end
    local queue = own.queue or "default"
    own.queue = nil
    if type(queue) ~= "string" or not queue:find "^[%w_.-]+$" then
        errors.raise("Manager:Pool: option 'queue' must be letters, digits, '_', '.' and '-'")
    end
    local c = client.of(manager)
    local key = envelope.key(manager.key_file)
    if not key and not c.address.is_local then
        errors.raise(("Manager:Pool: %s is no server of this machine: a key_file is expected, to sign tasks"):format(
            c.address.shown))
    end
    local pool = { manager = manager, client = c, queue = queue, key = key, opts = {}, tasks = {}, outstanding = 0,
        out = {}, changed = core.waitlist(), owner = core.pid(),
        place = ("%s/%s %s "):format(manager.namespace, queue, c.id) }
    merged(pool, "Manager:Pool", own, of_pool)
    pool.opts = own
    listen(c)
    c:keep_alive()
    return setmetatable({ pool = pool }, Pool)
end

require("mpengine.remote.maps").add(Pool, methods)

return { Pool = Pool }
