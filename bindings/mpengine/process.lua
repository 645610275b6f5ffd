--- Processes: mp.Process and what goes with it.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local process = {}

local SIGKILL, SIGTERM = 9, 15

local started = 0        -- children started by this process, for default names
local children = {}      -- started and not known to have ended: object -> true
local current            -- this process's own object
local is_daemon = false

local Process = { __name = "mp.Process" }
local state = setmetatable({}, { __mode = "k" }) -- object -> private fields

local function check(self, call)
    local s = state[self]
    if not s then error(("bad argument #1 to '%s' (mp.Process expected, got %s)"):format(call, type(self)), 3) end
    if s.closed then error(call .. ": the process object is closed", 3) end
    return s
end

local function check_child(self, call)
    local s = check(self, call)
    if not s.child then error(call .. ": the process has not been started", 3) end
    if not core.child_is_mine(s.child) then
        error(call .. ": the process is not a child of this one", 3)
    end
    return s
end

local function check_timeout(call, timeout)
    if timeout ~= nil and not (type(timeout) == "number" and timeout >= 0) then
        error(("bad argument #1 to '%s' (timeout must be a number of seconds, 0 or more)"):format(call), 3)
    end
end

--- Looks whether it has ended; the exit code or nil.
local function poll(self, s)
    if s.child and s.exitcode == nil and core.child_is_mine(s.child) then
        s.exitcode = core.child_poll(s.child)
        if s.exitcode ~= nil then children[self] = nil end
    end
    return s.exitcode
end

local methods = {}

--- Ends this process as a child: its own children are seen to first.
local function finish(code)
    process.end_children()
    core.end_process(code)
end

local function run_target(bytes)
    local function body()
        local args = table.pack(core.decode_args(bytes))
        local target = args[1]
        if target then target(table.unpack(args, 2, args.n)) end
    end
    local ok = xpcall(body, function(err)
        local text = errors.message(err)
        core.flush()
        core.write_error(("Process %s:\n%s\n"):format(core.process_name(), debug.traceback(text, 2)))
    end)
    process.kill_tasks()
    return ok and 0 or 1
end

--- The child's main function; does not return.
local function child_main(bytes)
    collectgarbage("restart")
    local ok, code = pcall(run_target, bytes)
    if not ok then
        core.write_error(("Process %s:\n%s\n"):format(core.process_name(), errors.message(code)))
        code = 1
    end
    finish(code)
end

--- What a started child finds out about itself; runs in the child before its target.
local function become(name, daemon)
    started, children, is_daemon = 0, {}, daemon
    current = nil
    core.process_name(name)
end

--- Starts the process. Raises when it was started before, when the arguments cannot be sent, or
--- when the system has no more processes.
function methods:start()
    local s = check(self, "start")
    if s.child then error("start: a process can be started only once", 2) end
    if is_daemon and not process.is_worker then
        error("start: a daemon process may not have children", 2)
    end
    local bytes = core.encode_args("start", "args", s.target, table.unpack(s.args, 1, s.args.n))
    local name, daemon, worker = s.name, s.daemon, s.worker
    s.child = core.fork(name, daemon, function(b)
        become(name, daemon)
        process.is_worker = worker
        child_main(b)
    end, bytes)
    s.pid = core.child_pid(s.child)
    children[self] = true
end

--- Waits for its end: true, or nil, "timeout". Suspends the task. Raises before start.
function methods:join(timeout)
    check_timeout("join", timeout)
    local s = check_child(self, "join")
    if s.exitcode == nil then
        local ok, why = core.child_wait(s.child, timeout)
        if not ok then return nil, why end
        poll(self, s)
    end
    return true
end

function methods:is_alive()
    local s = check(self, "is_alive")
    if self == current then return true end
    if s.remote then return core.kill_pid(s.pid, 0) and true or false end
    if not s.child then return false end
    check_child(self, "is_alive")
    return poll(self, s) == nil
end

function methods:terminate()
    local s = check_child(self, "terminate")
    core.child_signal(s.child, SIGTERM)
end

function methods:kill()
    local s = check_child(self, "kill")
    core.child_signal(s.child, SIGKILL)
end

--- Gives the object up. Raises while the process runs; a second time is harmless.
function methods:close()
    local s = state[self]
    if not s then check(self, "close") end
    if s.closed then return end
    if s.child and poll(self, s) == nil then
        error("close: the process is still running (join or terminate it first)", 2)
    end
    s.closed = true
end

local readable = { pid = true, name = true, daemon = true, exitcode = true }

function Process:__index(key)
    local method = methods[key]
    if method then return method end
    if not readable[key] then return nil end
    local s = check(self, key)
    if key == "exitcode" then return poll(self, s) end
    return s[key]
end

function Process:__newindex(key, value)
    local s = check(self, tostring(key))
    if key == "name" then
        if type(value) ~= "string" then error("name: a string expected, got " .. type(value), 2) end
        s.name = value
    elseif key == "daemon" then
        if s.child then error("daemon: cannot be changed after start", 2) end
        if type(value) ~= "boolean" then error("daemon: a boolean expected, got " .. type(value), 2) end
        s.daemon = value
    else
        error(("a process has no field '%s' that can be set (name and daemon can)"):format(tostring(key)), 2)
    end
end

function Process:__tostring()
    local s = state[self]
    if s.closed then return ("mp.Process: %s (closed)"):format(s.name) end
    if not s.child and not s.pid then return ("mp.Process: %s (not started)"):format(s.name) end
    local code = poll(self, s)
    if code == nil then return ("mp.Process: %s (pid %d, running)"):format(s.name, s.pid) end
    return ("mp.Process: %s (pid %d, exit code %d)"):format(s.name, s.pid, code)
end

local fields = { target = "function", args = "table", name = "string", daemon = "boolean", worker = "boolean" }

local function check_fields(t)
    for key, value in pairs(t) do
        local expected = fields[key]
        if not expected then error(("Process: unknown field '%s' (target, args, name, daemon expected)"):format(tostring(key)), 3) end
        if type(value) ~= expected then
            error(("Process: field '%s': a %s expected, got %s"):format(key, expected, type(value)), 3)
        end
    end
end

local function new(target, args, name, daemon, worker)
    started = started + 1
    if not name then
        local prefix = core.parent() and core.process_name() .. ":" or "Process-"
        name = prefix .. started
    end
    if daemon == nil then daemon = is_daemon and not process.is_worker end
    local self = setmetatable({}, Process)
    state[self] = { target = target, args = args, name = name, daemon = daemon, worker = worker }
    return self
end

--- mp.Process{ target =, args =, name =, daemon = } or mp.Process(f, ...)
function process.Process(first, ...)
    if type(first) == "function" then return new(first, table.pack(...)) end
    if type(first) ~= "table" then
        error(("bad argument #1 to 'Process' (function or table expected, got %s)"):format(type(first)), 2)
    end
    check_fields(first)
    local args = first.args or {}
    args.n = args.n or #args
    return new(first.target, args, first.name, first.daemon, first.worker)
end

--- The object of the running process.
function process.current_process()
    if not current then
        current = setmetatable({}, Process)
        state[current] = { name = core.process_name(), pid = core.pid(), daemon = is_daemon, remote = true }
    end
    return current
end

--- The object of the process that started this one, nil in the first.
function process.parent_process()
    local pid, name = core.parent()
    if not pid then return nil end
    local self = setmetatable({}, Process)
    state[self] = { name = name, pid = pid, daemon = false, remote = true }
    return self
end

--- A list of the children that are running; ended ones are waited for by the way.
function process.active_children()
    local list = {}
    for child in pairs(children) do
        if poll(child, state[child]) == nil then list[#list + 1] = child end
    end
    table.sort(list, function(a, b) return state[a].pid < state[b].pid end)
    return list
end

--- At the end of a process: daemons are terminated, the others waited for.
function process.end_children()
    for _, child in ipairs(process.active_children()) do
        if state[child].daemon then core.child_signal(state[child].child, SIGTERM) end
    end
    for _, child in ipairs(process.active_children()) do child:join() end
    core.children_end()
end

--- Kills what tasks remain and lets their close handlers run. Replaced by mpengine.co.
function process.kill_tasks() end

--- The child userdata behind a Process object, for mp.wait.
function process.child_of(self)
    local s = state[self]
    return s and s.child
end

process.core_state = state

local os_exit = os.exit

--- os.exit as before, after the children: also in a child, where nothing of the parent is unwound.
function os.exit(code, close) -- luacheck: ignore 122
    if code == nil or code == true then code = 0 elseif code == false then code = 1 end
    if type(code) ~= "number" or math.tointeger(code) == nil then
        error(("bad argument #1 to 'exit' (boolean or integer expected, got %s)"):format(type(code)), 2)
    end
    if core.parent() then finish(math.tointeger(code)) end
    process.end_children()
    core.flush()
    core.leave()
    os_exit(math.tointeger(code) & 0xff, close)
end

return process
