--- mpengine top URL: the queues and workers of a namespace, again and again. On a terminal it fills the screen until
--- it is stopped; else it prints one picture in plain lines.
local core = require "mpengine.core"
local mp = require "mpengine"
local client = require "mpengine.remote.client"
local screen = require "mpengine.look.screen"

local top = {}

-- {queues, workers, living clients}. A queue: name, ready, delayed, dead, then pairs of a count and its name. A worker:
-- id, queue, "processes host", tasks it has, ms until its lease ends.
local PICTURE = client.script [[
local at, queues, by_name, workers = now(), {}, {}, {}
local all = call('HGETALL', P .. 'counts')
for i = 1, #all, 2 do
    local queue, kind = all[i]:match('^(%S+) (%S+)$')
    local q = by_name[queue]
    if not q then
        local ready = 0
        for priority = 0, 2 do ready = ready + call('LLEN', P .. 'ready:' .. queue .. ':' .. priority) / 2 end
        q = {queue, ready, call('ZCARD', P .. 'later:' .. queue), call('LLEN', P .. 'dead:' .. queue)}
        by_name[queue] = q
        queues[#queues + 1] = q
        local list = call('HGETALL', P .. 'workers:' .. queue)
        for j = 1, #list, 2 do
            local has = call('HLEN', P .. 'runs:' .. queue .. ':' .. list[j])
            workers[#workers + 1] = {list[j], queue, list[j + 1], has, deadline(list[j]) - at}
        end
    end
    q[#q + 1] = kind
    q[#q + 1] = tonumber(all[i + 1])
end
return {queues, workers, call('ZCOUNT', P .. 'live', at, '+inf')}
]]

---@class mpengine.remote.Picture
---@field at number seconds of core.now
---@field queues table[] name, ready, delayed, running, dead, workers, processes, done, failed, crashed
---@field workers table[] id, queue, host, processes, running, is_alive
---@field clients integer processes that are alive, with those of workers

local function queue_of(entry)
    local q = { name = entry[1], ready = entry[2], delayed = entry[3], dead = entry[4], running = 0, workers = 0,
        processes = 0, submitted = 0, done = 0, failed = 0, crashed = 0 }
    for i = 5, #entry, 2 do q[entry[i]] = entry[i + 1] end
    return q
end

--- What the server knows at this moment.
---@return mpengine.remote.Picture
function top.picture(c)
    local reply = c:run(true, PICTURE)
    local picture = { at = core.now(), queues = {}, workers = {}, clients = reply[3] }
    local by_name = {}
    for i, entry in ipairs(reply[1]) do
        picture.queues[i] = queue_of(entry)
        by_name[entry[1]] = picture.queues[i]
    end
    for i, entry in ipairs(reply[2]) do
        local processes, host = entry[3]:match "^(%d+) ?(.*)$"
        local w = { id = entry[1], queue = entry[2], host = host, processes = math.tointeger(tonumber(processes)),
            running = entry[4], is_alive = entry[5] > 0 }
        picture.workers[i] = w
        local q = by_name[w.queue]
        q.running = q.running + w.running
        if w.is_alive then q.workers, q.processes = q.workers + 1, q.processes + w.processes end
    end
    table.sort(picture.queues, function(a, b) return a.name < b.name end)
    table.sort(picture.workers, function(a, b)
        if a.queue ~= b.queue then return a.queue < b.queue end
        return a.id < b.id
    end)
    return picture
end

-- ---- text ------------------------------------------------------------------------------------

local function rate(q, before, kind, seconds)
    for _, old in ipairs(before.queues) do
        if old.name == q.name then return (q[kind] - old[kind]) / seconds end
    end
    return q[kind] / seconds
end

local function state_of(w)
    if not w.is_alive then return "not heard of" end
    return w.processes == 0 and "ends" or "works"
end

local function whole(n) return ("%d"):format(n) end

--- The lines of a picture; the rates are since another one.
---@return string[]
function top.lines(picture, before, title)
    local seconds = math.max(1e-3, picture.at - before.at)
    local queues = { { "QUEUE", "READY", "DELAYED", "RUNNING", "DEAD", "WORKERS", "PROCESSES", "DONE/S", "FAILED/S",
        "CRASHED/S" } }
    for i, q in ipairs(picture.queues) do
        local function per_second(kind) return ("%.1f"):format(rate(q, before, kind, seconds)) end
        queues[i + 1] = { q.name, whole(q.ready), whole(q.delayed), whole(q.running), whole(q.dead), whole(q.workers),
            whole(q.processes), per_second "done", per_second "failed", per_second "crashed" }
    end
    local workers = { { "WORKER", "HOST", "QUEUE", "PROCESSES", "RUNNING", "STATE" } }
    for i, w in ipairs(picture.workers) do
        workers[i + 1] = { w.id, w.host, w.queue, whole(w.processes), whole(w.running), state_of(w) }
    end
    local lines = { ("%s  %d processes are heard of"):format(title, picture.clients), "" }
    table.move(screen.rows(queues, "lrrrrrrrrr", " "), 1, #queues, #lines + 1, lines)
    lines[#lines + 1] = ""
    table.move(screen.rows(workers, "lllrrl", " "), 1, #workers, #lines + 1, lines)
    return lines
end

-- ---- the command -----------------------------------------------------------------------------

local CLEAR <const> = "\27[H\27[2J"

--- What a screen has room for: the lines that go on below it are counted in the last one.
local function fitted(lines)
    local rows, columns = core.terminal_size(1)
    if not rows or rows < 2 then return lines end
    local shown = #lines < rows and #lines or rows - 2
    local out = {}
    for i = 1, shown do out[i] = (screen.cut(lines[i], columns)) end
    if shown < #lines then out[shown + 1] = ("... and %d lines more"):format(#lines - shown) end
    return out
end

--- Shows pictures of a manager: `count` of them, or until the process is stopped.
---@param manager mpengine.remote.Manager
---@param interval number seconds
---@param count integer?
function top.run(manager, interval, count)
    local c = client.of(manager)
    local is_screen = core.isatty(1)
    count = count or not is_screen and 1 or math.huge
    local title = ("%s (%s)"):format(c.address.shown, manager.namespace)
    local before = top.picture(c)
    for _ = 1, count do
        mp.sleep(interval)
        local picture = top.picture(c)
        local lines = top.lines(picture, before, title)
        if is_screen then lines = fitted(lines) end
        io.write(is_screen and CLEAR or "", table.concat(lines, "\n"), "\n")
        io.flush()
        before = picture
    end
end

return top
