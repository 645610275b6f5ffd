--- The answers of this process to readers. A question names a handler; the handler returns a
--- function that is called again and again: it returns bytes, or nil, and whether there is more.
--- Each call is made where a signal may have interrupted the script: it must not wait, must end
--- within SLICE seconds or little more, and may use nothing that the script could have changed.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local answer = {}

--- Seconds for one piece: so long the program is held at a time.
answer.SLICE = 0.01

--- By the name of the question: function(text) -> function() -> bytes?, more
---@type table<string, fun(text: string): fun(): string?, boolean?>
answer.handlers = {}

--- Bytes as they are sent: the reader gets them back from pieces_of.
function answer.piece(bytes) return string.pack("=s4", bytes) end

--- The pieces of an answer, as far as it came.
---@return string[]
function answer.pieces_of(bytes)
    local list, at = {}, 1
    while at + 3 <= #bytes do
        local ok, piece, next_at = pcall(string.unpack, "=s4", bytes, at)
        if not ok then break end
        list[#list + 1] = piece
        at = next_at
    end
    return list
end

local step -- of the question that is being answered

--- hooks.answer: begins with the question, or goes on; false: the reader is gone.
function answer.go_on(question)
    if question == false then
        step = nil
        return nil, false
    elseif question then
        local what, text = question:match("^(%S+) ?(.*)$")
        local handler = what and answer.handlers[what]
        step = handler and handler(text) or function() end
    end
    local bytes, more = step()
    if not more then step = nil end
    return bytes, more
end

-- ---- what a dump wants to know ----

local function pool_of(pool)
    local workers, names = {}, pool.published.names
    for _, w in ipairs(core.modules["mpengine.pool.workers"].stats(pool)) do
        local task = w.task and core.modules["mpengine.pool.schedule"].find(pool, w.task)
        workers[#workers + 1] = {
            pid = w.pid, name = w.name, state = w.state, seconds = w.seconds, tasks = w.tasks, busy = w.busy,
            runs = task and task.job and names[task.job.f_id] or nil,
            item = task and task.count and task.count > 1 and task.first or nil,
        }
    end
    return {
        control = core.handle(pool.control), name = pool.name, workers = workers, queued = pool.inbox:qsize(),
        outstanding = pool.outstanding, completed = pool.completed, failed = pool.failed, closed = pool.closed or false,
    }
end

local function pools()
    local list, module = {}, core.modules["mpengine.pool"]
    for pool in pairs(module and module.running or {}) do
        if not pool.terminated and pool.owner == core.modules["mpengine.process"].identity then
            list[#list + 1] = pool_of(pool)
        end
    end
    return list
end

--- The children of each in the order of their names.
local function supervisors()
    local module = core.modules["mpengine.supervisor"]
    local list = module and module.list() or {}
    for _, supervisor in ipairs(list) do
        local children = {}
        for name, child in pairs(supervisor.children) do
            child.name = name
            children[#children + 1] = child
        end
        table.sort(children, function(a, b) return a.name < b.name end)
        supervisor.children = children
    end
    return list
end

--- What is no task, as a table.
local function head_of_dump()
    local ok, list = pcall(pools)
    return core.codec.encode {
        heap = collectgarbage("count") * 1024, running_for = core.running_for(), supervisors = supervisors(),
        pools = ok and list or {},
    }
end

--- The head, then records of tasks.
local function begin_dump()
    local tasks
    return function()
        if not tasks then
            tasks = core.description()
            return answer.piece(head_of_dump()), true
        end
        return tasks:go_on(answer.SLICE)
    end
end

answer.handlers.dump = begin_dump

--- What the process does at this moment: for profile.
function answer.handlers.sample()
    return function()
        local held = core.asked_for()
        local task, running, stack = core.sample()
        return answer.piece(core.codec.encode {
            pid = core.pid(), held = held, task = task, running = running, stack = stack,
        })
    end
end

return answer
