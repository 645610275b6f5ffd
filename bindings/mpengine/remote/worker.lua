--- mpengine worker: runs the tasks of queues in processes of a local pool. This process speaks to the server
--- and runs nothing of the tasks, so it is heard of whatever they do. It asks for as many tasks as it has
--- room for, and says how they ended with its next question.
local co = require "mpengine.co"
local core = require "mpengine.core"
local client = require "mpengine.remote.client"
local envelope = require "mpengine.remote.envelope"
local errors = require "mpengine.errors"
local job = require "mpengine.remote.job"
local Manager = require("mpengine.remote.manager").Manager
local outcome = require "mpengine.remote.outcome"
local Pool = require("mpengine.pool").Pool
local scripts = require "mpengine.remote.tasks"

local worker = {}

local BATCH <const> = 256 -- ends of tasks in one script
local AHEAD <const> = 0.02 -- seconds of work that are asked for in advance, for each process
local MOST <const> = 64 -- tasks in advance for each process
local BYTES <const> = 1 << 20 -- of ends in one script, unless one has more
local PAUSE <const> = 1 -- seconds until a server that refuses is asked again
local FAREWELL <const> = 5 -- seconds to say goodbye to the server at the end

---@class mpengine.remote.worker.Options
---@field processes integer
---@field queues string[]
---@field allow string[]? patterns of names, with '*'
---@field grace number seconds for what runs at the end
---@field manager mpengine.remote.Options

-- ---- which functions -------------------------------------------------------------------------

local function pattern_of(text)
    return "^" .. text:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
end

local function is_allowed(w, name)
    if not w.allow then return true end
    for _, pattern in ipairs(w.allow) do
        if name:find(pattern) then return true end
    end
    return false
end

-- ---- the ends of tasks -----------------------------------------------------------------------

local function report(line) core.report(3, "mpengine worker: " .. line) end

--- Reports an error and pauses, but for the kill of the task, and signals.
local function bear(err)
    if core.signal_of(err) or errors.is(err) and err.kind == "killed" then error(err, 0) end
    report(errors.message(err))
    co.sleep(PAUSE)
end

--- Tells the queue's loop how a task ended.
local function ended(q, id, kind, bytes)
    q.running = q.running - 1
    q.runs[id] = nil
    q.ended[#q.ended + 1] = { kind, id, envelope.seal(q.w.key, q.place .. id, bytes) }
    q.stir:set()
end

local function refuse(q, id, message)
    q.running = q.running + 1
    ended(q, id, "f", outcome.of_error(q.w.manager, { message = message }))
end

--- The kind of an end for an error of the local pool.
local function kind_of(err)
    if err.kind == "worker_died" then return "x" end
    return "f"
end

-- ---- running ---------------------------------------------------------------------------------

--- The task in a message, or nil and why it is refused.
local function read(q, id, sealed)
    local bytes, why = envelope.open(q.w.key, q.place .. id, sealed)
    local task = bytes and envelope.read_task(bytes)
    if not task then return nil, "the task is refused: " .. (why or "it is damaged") end
    if task.expires > 0 and task.expires < os.time() then return nil, "the task has expired" end
    if not is_allowed(q.w, task.name) then
        return nil, ("the worker does not allow '%s' (--allow)"):format(task.name)
    end
    return task
end

local function start(q, id, sealed)
    if q.runs[id] then return end
    local task, why = read(q, id, sealed)
    if not task then return refuse(q, id, why) end
    q.running = q.running + 1
    local ok, result = pcall(q.w.pool.apply_async, q.w.pool, job.run, { q.w.manager, task }, {
        timeout = task.timeout > 0 and task.timeout or nil,
        callback = function(bytes, well, took)
            q.took = (q.took or took) * 0.8 + took * 0.2
            if q.runs[id] then ended(q, id, well and "v" or "e", bytes) end
        end,
        error_callback = function(err)
            if q.runs[id] then ended(q, id, kind_of(err), outcome.of_error(q.w.manager, err)) end
        end,
    })
    if ok then
        q.runs[id] = result
    else
        ended(q, id, "f", outcome.of_error(q.w.manager, { message = tostring(result) }))
    end
end

--- How many tasks it may have: one for each process, and in advance what is short.
local function capacity(q)
    if q.w.stopping then return -1 end
    local ahead = q.took and math.min(MOST, AHEAD / q.took // 1 | 0) or 0
    return q.w.processes * (1 + ahead)
end

--- The words for the next ends of tasks, and how many they are.
local function ends(q)
    local words, n, bytes = {}, 0, 0
    while n < math.min(#q.ended, BATCH) do
        bytes = bytes + #q.ended[n + 1][3]
        if n > 0 and bytes > BYTES then break end
        n = n + 1
        table.move(q.ended[n], 1, 3, #words + 1, words)
    end
    return words, n
end

--- The tasks that this process knows: they run, or have ended.
local function known(q)
    local list = {}
    for id in pairs(q.runs) do list[#list + 1] = id end
    for _, entry in ipairs(q.ended) do list[#list + 1] = entry[2] end
    return list
end

--- Starts what the server has given without this process having heard of it. A message that comes late is then
--- of a task that is known (q.resumed).
local function resume(q)
    local c = q.w.client
    q.resumed_at = core.now()
    q.resumed = {}
    repeat
        local tasks = c:run(true, scripts.RESUME, q.name, c.id, c:lease_ms(), table.unpack(known(q)))
        local heard = {}
        for _, id in ipairs(known(q)) do heard[id] = true end
        for i = 1, #tasks, 2 do
            if not heard[tasks[i]] then
                start(q, tasks[i], tasks[i + 1])
                q.resumed[tasks[i]] = true
            end
        end
    until #tasks == 0
end

--- Says what has ended, and asks for tasks. Returns when to ask again.
local function exchange(q)
    local words, n = ends(q)
    local c = q.w.client
    local tasks = c:run(true, scripts.WORK, q.name, c.id, c:lease_ms(), capacity(q), q.w.place,
        table.unpack(words))
    q.ended = table.move(q.ended, n + 1, #q.ended, 1, {})
    for i = 3, #tasks, 2 do start(q, tasks[i], tasks[i + 1]) end
    local period = c.lease / 3
    local is_new = q.connection ~= c.connections.commands
    q.connection = c.connections.commands
    if is_new or tasks[2] > q.running + #q.ended and core.now() - q.resumed_at >= period then resume(q) end
    return tasks[1] >= 0 and math.min(period, tasks[1] / 1000) or period
end

local function is_idle(q) return q.w.stopping and q.running == 0 and #q.ended == 0 end

--- The loop of a queue. An outage of the server, and one that refuses, end nothing: it is asked again.
local function serve(q)
    while not is_idle(q) do
        q.stir:clear()
        local ok, again = pcall(exchange, q)
        if not ok then
            bear(again)
        elseif #q.ended == 0 and not is_idle(q) then
            q.stir:wait(again)
        end
    end
    local c = q.w.client
    c:run(true, scripts.WORK, q.name, c.id, c:lease_ms(), -2, q.w.place)
end

-- ---- messages --------------------------------------------------------------------------------

local function listen(w)
    local c = w.client
    for _, q in ipairs(w.queues) do
        c:listen("task:" .. q.name, function(fields)
            fields.w = nil
            if fields.look then
                fields.look = nil
                q.stir:set()
            end
            for id, sealed in pairs(fields) do
                if not q.resumed[id] then start(q, id, sealed) end
                q.resumed[id] = nil
            end
        end)
    end
    c:listen("cancel", function(fields)
        for _, q in ipairs(w.queues) do
            for id in pairs(fields) do
                local result = q.runs[id]
                if result then
                    ended(q, id, "v", "")
                    result:cancel()
                end
            end
        end
    end)
end

--- Reads messages, also after an outage.
local function read_messages(w)
    local wait <close> = w.client:wait()
    while true do
        local ok, err = pcall(w.client.await, w.client, wait)
        if not ok then bear(err) end
    end
end

-- ---- the worker ------------------------------------------------------------------------------

--- A manager of the server; one that cannot be reached is tried for ever.
local function connect(url, options)
    local told
    while true do
        local ok, manager = pcall(Manager, url, options)
        if ok then return manager end
        if not (errors.is(manager) and manager.kind == "disconnected") then error(manager, 0) end
        if not told then core.report(2, "mpengine worker: " .. manager.message .. "; trying again") end
        told = true
        co.sleep(1)
    end
end

--- The name of this machine.
local function host()
    local f <close> = io.open "/proc/sys/kernel/hostname"
    return f and f:read "l" or "?"
end

--- What runs at the end of the grace is stopped, and given back.
local function stop_late(w)
    for _, q in ipairs(w.queues) do
        for id, result in pairs(q.runs) do
            ended(q, id, "b", "")
            result:cancel()
        end
    end
end

--- Takes no more tasks, ends those that run, and returns from run.
function worker.stop(w)
    if w.stopping then return end
    w.stopping = true
    for _, q in ipairs(w.queues) do q.stir:set() end
    w.late = co.spawn(function()
        co.joinall(w.loops, w.grace)
        stop_late(w)
        co.joinall(w.loops, FAREWELL)
        w.is_silent = true
        co.killall(w.loops)
    end)
end

--- Runs tasks until stop is called.
---@param url string
---@param options mpengine.remote.worker.Options
---@param started fun(w: table)? is called when it is ready
function worker.run(url, options, started)
    local manager = connect(url, options.manager)
    local c = client.of(manager)
    local key = envelope.key(manager.key_file)
    if not c.address.path and not options.allow then
        error("--allow is expected for TCP: which functions may be run, such as 'jobs.*'", 0)
    end
    if not key and not c.address.is_local then
        error(("%s is no server of this machine: --key-file is expected"):format(c.address.shown), 0)
    end
    c.timeout = math.huge -- a worker outlasts every outage
    local w = { manager = manager, client = c, key = key, processes = options.processes, grace = options.grace,
        queues = {}, place = ("%d %s"):format(options.processes, host()) }
    for i, text in ipairs(options.allow or {}) do
        w.allow = w.allow or {}
        w.allow[i] = pattern_of(text)
    end
    w.pool = Pool(options.processes)
    for i, name in ipairs(options.queues) do
        w.queues[i] = { w = w, name = name, running = 0, runs = {}, ended = {}, stir = co.Event(),
            resumed = {}, resumed_at = core.now(),
            place = ("%s/%s "):format(manager.namespace, name) }
    end
    listen(w)
    c:keep_alive()
    local reader = co.spawn(read_messages, w)
    w.loops = {}
    for i, q in ipairs(w.queues) do w.loops[i] = co.spawn(serve, q) end
    if started then started(w) end
    co.joinall(w.loops)
    for _, loop in ipairs(w.is_silent and {} or w.loops) do loop:get() end
    reader:kill()
    if w.late then w.late:kill() end
    w.pool:terminate()
    w.pool:join()
    if w.is_silent then error("the server cannot be told that this worker goes: what ran is found by its lease", 0) end
end

return worker
