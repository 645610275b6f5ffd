--- Processes: mp.Process and related functions.
local core = require "mpengine.core"
local check = require "mpengine.check"
local context = require "mpengine.context"
local errors = require "mpengine.errors"
local hooks = require "mpengine.hooks"

local process = {}

local SIGKILL, SIGTERM, SIGCONT = 9, 15, 18
local SLOT_NAME <const> = 47 -- bytes of a name in shared memory

--- A different table in each forked process, so that the maker of an object is recognized without a
--- system call.
process.identity = {}

local own_name, parent_name -- of a child, whole
local started = 0        -- children started by this process, for default names
local seen = 0           -- exits of children that the table below no longer has
local children = {}      -- started and not known to have ended: object -> true
local current            -- this process's own object
local is_daemon = false
local is_supervised = false -- a daemon that may have children, as a pool worker may
local ready_event        -- what its supervisor waits for

local Process = { __name = "mp.Process" }
local state = setmetatable({}, { __mode = "k" }) -- object -> private fields

local function check_self(self, call)
    local s = state[self]
    if not s then check.bad_self("Process:" .. call, "mp.Process", self) end
    if s.closed then error("Process:" .. call .. ": the process object is closed") end
    return s
end

local function check_child(self, call)
    local s = check_self(self, call)
    if not s.child and not s.remote then error("Process:" .. call .. ": the process has not been started") end
    if s.remote or not core.child_is_mine(s.child) then
        error("Process:" .. call .. ": the process is not a child of this one")
    end
    return s
end

local function pid_of(s)
    return s.pid or s.child and core.child_pid(s.child)
end

--- Checks whether it has exited; returns the exit code or nil.
local function poll(self, s)
    if s.child and s.exitcode == nil and core.child_is_mine(s.child) then
        s.exitcode = core.child_poll(s.child)
        if s.exitcode ~= nil then children[self] = nil end
    end
    return s.exitcode
end

--- Drops the children that are known to have exited: no call may ever ask for them.
local function forget_ended()
    local ended = core.ended_children()
    if ended == seen then return end
    seen = ended
    for child in pairs(children) do
        local s = state[child]
        s.exitcode = core.child_code(s.child)
        if s.exitcode ~= nil then children[child] = nil end
    end
end

local methods = {}

--- Ends this process as a child, after its own children.
local function finish(code)
    process.end_children()
    core.end_process(code)
end

-- True for an error that another process reports: it is not reported twice.
local function is_told(err)
    local deadlock = core.modules["mpengine.deadlock"]
    return deadlock and deadlock.is_told(err)
end

--- The name of this process, whole; others see the beginning that its slot has room for.
function process.name() return own_name or core.process_name() end

local function report(text)
    core.report(1, string.format("Process %s:\n%s", core.escaped(process.name()), text))
end

local function describe(err) return is_told(err) and "" or (errors.traceback(err, 3)) end

local function call(target, ...)
    if target then target(...) end
end

local function run_target(read, source) call(read(source)) end

local function take_exit()
    if package.loaded.os then package.loaded.os.exit = process.exit end
end

--- The child's main function: calls the target that read(source) returns with the arguments behind it.
--- Does not return.
local function child_main(read, source)
    take_exit()
    local ok, text = errors.call(describe, run_target, read, source)
    if not ok and text ~= "" then report(text) end
    local ended, why = pcall(call, hooks.kill_tasks)
    if not ended then report(errors.message(why)) end
    finish(ok and ended and 0 or 1)
end

--- Initializes a started child, before its target runs.
local function become(settings)
    started, children, current = 0, {}, nil
    process.identity = {}
    own_name, parent_name = settings.name, settings.parent_name
    is_daemon, process.is_worker = settings.daemon, settings.worker
    is_supervised = settings.supervised ~= nil
    ready_event = is_supervised and settings.supervised ~= true and settings.supervised or nil
end

--- The main function of a child in a new program: target and settings arrive in two messages.
function process.begin_child()
    local settings = core.next_message()
    package.path, package.cpath = settings.path, settings.cpath
    _G.arg = settings.arg
    process.executable = settings.executable
    context.set_default(settings.method)
    if settings.log then require("mpengine.log").become(settings.log) end
    become(settings)
    child_main(core.next_message)
end

-- The settings that a child in a new program needs besides its target.
local function settings_of(s)
    local log = core.modules["mpengine.log"]
    return {
        name = s.name, parent_name = process.name(), daemon = s.daemon, worker = s.worker, supervised = s.supervised,
        method = context.get_start_method(),
        path = package.path, cpath = package.cpath, executable = process.executable,
        log = log and log.settings(), arg = context.plain_arg(),
    }
end

local starters = {}

local function forked_main(bytes, s)
    if s.worker then core.drop_inherited() end
    become(s)
    child_main(core.decode_args, bytes)
end

--- What the slot has room for: whole characters, and no zero byte, which ends a name there.
local function shown_name(name)
    name = string.gsub(name, "\0", "\\0") -- no method: the script may have taken it away
    if #name <= SLOT_NAME then return name end
    local size = SLOT_NAME
    while size > SLOT_NAME - 3 and string.find(name, "^[\x80-\xbf]", size + 1) do size = size - 1 end
    return string.sub(name, 1, size)
end

function starters.fork(s, bond, bytes)
    s.parent_name = process.name()
    return pcall(core.fork, s.child, shown_name(s.name), bond, forked_main, bytes, s)
end

local function start_program(method, s, bond, bytes)
    local found, executable = pcall(context.executable, "start", process.executable)
    if not found then return false, executable end
    local settings = core.encode_value("start", "settings", settings_of(s))
    local name = shown_name(s.name)
    return pcall(core.start_program, s.child, method, name, bond, executable, context.boot_code(), settings, bytes)
end

function starters.spawn(...) return start_program("spawn", ...) end
function starters.forkserver(...) return start_program("forkserver", ...) end

-- How it ends with this process: children of a daemon do not outlive that either.
local function bond_of(s)
    if s.daemon then return "daemon" end
    if s.detach then return "none" end
    return is_daemon and "daemon" or "bound"
end

--- Starts the process. Raises when it was started before, when the arguments cannot be sent, or
--- when the system has no more processes.
function methods:start()
    local s = check_self(self, "start")
    if s.child then error("Process:start: a process can be started only once", 2) end
    if s.remote then error("Process:start: this process runs already", 2) end
    if is_daemon and not process.is_worker and not is_supervised then
        error("Process:start: a daemon process may not have children", 2)
    end
    local method = s.method or context.get_start_method()
    local bytes = errors.at(3, core.encode_args, "start", 1, s.target, table.unpack(s.args, 1, s.args.n))
    forget_ended()
    -- recorded beforehand: after a fork every page that is written to is copied
    s.child = core.child_new()
    children[self] = true
    local ok, why = starters[method](s, bond_of(s), bytes)
    if ok then
        s.target, s.args = nil, nil -- the object may live on; these need not
        return
    end
    s.child, children[self] = nil, nil
    core.unsent(bytes)
    error(why, 0) -- it has its place
end

-- Waits for the parent, in one of its children.
local function join_remote(self, timeout)
    local s = check_self(self, "join")
    if s.pid == core.pid() then error("Process:join: a process cannot wait for itself", 3) end
    local fd = core.parent_fd()
    if not fd then return true end
    return core.wait_fd(fd, "r", timeout)
end

--- Waits for its exit: true, or nil, "timeout". Suspends the task. Raises before start.
function methods:join(timeout)
    check.timeout("Process:join", 1, timeout)
    if state[self] and state[self].remote then return join_remote(self, timeout) end
    local s = check_child(self, "join")
    if s.exitcode == nil then
        local ok, why = core.child_wait(s.child, timeout)
        if not ok then return nil, why end
        poll(self, s)
    else
        core.did(true)
    end
    return true
end

function methods:is_alive()
    local s = check_self(self, "is_alive")
    core.look()
    if self == current then return true end
    if s.remote then return s.pid == core.pid() or core.parent_fd() ~= nil end
    if not s.child then return false end
    check_child(self, "is_alive")
    return poll(self, s) == nil
end

function methods:terminate()
    local s = check_child(self, "terminate")
    core.child_signal(s.child, SIGTERM)
    core.child_signal(s.child, SIGCONT) -- a stopped process would not take the signal
end

function methods:kill()
    local s = check_child(self, "kill")
    core.child_signal(s.child, SIGKILL)
end

--- Releases the object. Raises while the process runs; a second close is harmless.
function methods:close()
    local s = state[self]
    if not s then check_self(self, "close") end
    if s.closed then return end
    if s.child and poll(self, s) == nil then
        error("Process:close: the process is still running (join or terminate it first)", 2)
    end
    s.closed = true
end

local readable = { pid = true, name = true, daemon = true, exitcode = true }

function Process:__index(key)
    local method = methods[key]
    if method then return method end
    if not readable[key] then return nil end
    local s = check_self(self, key)
    if key == "exitcode" then
        core.look()
        return poll(self, s)
    end
    if key == "pid" then return pid_of(s) end
    return s[key]
end

function Process:__newindex(key, value)
    local s = check_self(self, tostring(key))
    if key == "name" then
        if type(value) ~= "string" then error("name: a string expected, got " .. type(value), 2) end
        s.name = value
        if self == current then
            own_name = value
            core.process_name(shown_name(value)) -- as others see it
        end
    elseif key == "daemon" then
        if s.child then error("daemon: cannot be changed after start", 2) end
        if type(value) ~= "boolean" then error("daemon: a boolean expected, got " .. type(value), 2) end
        if value and s.detach then error("daemon: a detached process cannot be a daemon", 2) end
        s.daemon = value
    else
        error(string.format("a process has no field '%s' that can be set (name and daemon can)", tostring(key)), 2)
    end
end

function Process:__tostring()
    local s = state[self] or check_self(self, "tostring")
    local name = core.escaped(s.name)
    if s.closed then return string.format("mp.Process: %s (closed)", name) end
    local pid = pid_of(s)
    if not pid then return string.format("mp.Process: %s (not started)", name) end
    local code = poll(self, s)
    if code == nil then return string.format("mp.Process: %s (pid %d, running)", name, pid) end
    return string.format("mp.Process: %s (pid %d, exit code %d)", name, pid, code)
end

local exited = core.waitlist() -- the source of a parent that has exited

--- Waiting for it (waitable.lua): ready when it has exited.
function Process:__ready() return not self:is_alive() end

function Process:__wait_source()
    local s = check_self(self, "wait")
    if s.child then return s.child end
    if s.remote and s.pid ~= core.pid() then return core.parent_fd() or exited end
    return nil, s.remote and "a process cannot wait for itself" or "the process has not been started"
end

local fields = {
    target = "function", args = "table", name = "string", daemon = "boolean", detach = "boolean", worker = "boolean",
    method = "string",
}

local function check_fields(t)
    for key, value in pairs(t) do
        local expected = fields[key]
        if not expected then
            error(string.format("Process: unknown field '%s' (target, args, name, daemon, detach expected)",
                tostring(key)), 3)
        end
        if type(value) ~= expected then
            error(string.format("Process: field '%s': a %s expected, got %s", key, expected, type(value)), 3)
        end
    end
    if t.daemon and t.detach then error("Process: a daemon cannot be detached", 3) end
end

local function new(target, args, s)
    started = started + 1
    local name, daemon = s.name, s.daemon
    if not name then
        local prefix = core.parent() and process.name() .. ":" or "Process-"
        name = prefix .. started
    end
    if daemon == nil then daemon = is_daemon and not process.is_worker and not is_supervised end
    local self = setmetatable({}, Process)
    state[self] = {
        target = target, args = args, name = name, daemon = daemon, detach = s.detach, worker = s.worker,
        method = s.method or context.scoped(),
    }
    return self
end

--- mp.Process{ target =, args =, name =, daemon =, detach = } or mp.Process(f, ...)
function process.Process(first, ...)
    if type(first) == "function" then return new(first, table.pack(...), {}) end
    if type(first) ~= "table" then
        check.fail("Process", 1, "function or table", first)
    end
    check_fields(first)
    local args = first.args and table.move(first.args, 1, first.args.n or #first.args, 1, {}) or {}
    args.n = first.args and first.args.n or #args
    return new(first.target, args, first)
end

--- The same for the child of a supervisor, which may have children itself. ready: the event that
--- mp.ready sets there, if its supervisor waits for that.
---@param options table
---@param ready userdata?
function process.supervised(options, ready)
    local self = process.Process(options)
    state[self].supervised = ready or true
    return self
end

--- In the child of a supervisor: it is ready. Elsewhere nothing.
function process.ready()
    if ready_event then ready_event:set() end
end

--- The object of the running process.
function process.current_process()
    if not current then
        current = setmetatable({}, Process)
        state[current] = { name = process.name(), pid = core.pid(), daemon = is_daemon, remote = true }
    end
    return current
end

--- The object of the process that started this one, nil in the first.
function process.parent_process()
    local pid, name = core.parent()
    if not pid then return nil end
    local self = setmetatable({}, Process)
    state[self] = { name = parent_name or name, pid = pid, daemon = false, remote = true }
    return self
end

--- A list of the children that are running; exited ones are reaped.
function process.active_children()
    core.look()
    local list = {}
    for child in pairs(children) do
        if poll(child, state[child]) == nil then list[#list + 1] = child end
    end
    table.sort(list, function(a, b) return pid_of(state[a]) < pid_of(state[b]) end)
    return list
end

--- At the end of a process: waits for its children, then terminates the daemons.
function process.end_children()
    local left = next(children)
    while left do
        left = nil
        for _, child in ipairs(process.active_children()) do
            if not state[child].daemon then
                if not child:join(core.patience()) then
                    core.tell_waiting()
                    child:join()
                end
                left = child
            end
        end
    end
    core.children_end(false)
    local log = core.modules["mpengine.log"]
    if log then log.rest() end
end

--- Ends every process of the program except this one, which was interrupted.
function process.stop_all()
    core.children_end(true)
end

--- The child userdata behind a Process object.
function process.child_of(self)
    local s = state[self]
    return s and s.child
end

local os_exit = os.exit

--- os.exit as in Lua, after the children have exited; also in a child, where nothing of the parent
--- is unwound.
function process.exit(code, close)
    if code == nil or code == true then code = 0 elseif code == false then code = 1 end
    if type(code) ~= "number" or math.tointeger(code) == nil then
        check.fail("os.exit", 1, "boolean or integer", code)
    end
    code = math.tointeger(code)
    if core.is_closed() then os_exit(code & 0xff) end -- in a finalizer
    local bars = core.modules["mpengine.bars"]
    if bars then bars.close_all() end
    if core.parent() then finish(code) end
    if close then -- close handlers and finalizers come first, as at the end of the script
        core.flush()
        os_exit(code & 0xff, true)
    end
    process.end_children()
    core.flush()
    core.leave()
    os_exit(code & 0xff)
end

if core.is_program() then take_exit() end

return process
