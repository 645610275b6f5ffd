--- Other programs, run while only the calling task waits.
local core = require "mpengine.core"
local check = require "mpengine.check"

local subprocess = {}

local SIGKILL = 9
local REAP_SECONDS = 2    -- how long a killed program may take to be gone
local LOOK_SECONDS = 0.01 -- between two checks, when there is no descriptor to wait for

-- Programs whose exit status no task asks for: they are reaped before the next one starts.
local orphans = {}

local function reap_orphans()
    for i = #orphans, 1, -1 do
        if core.reap(orphans[i]) then table.remove(orphans, i) end
    end
end

-- ---- a started program -----------------------------------------------------------------------

---@class mpengine.subprocess.Child
---@field pid integer
---@field stdin integer? this side's ends of the pipes
---@field stdout integer?
---@field stderr integer?
local Child = { __name = "mpengine.subprocess.Child" }
Child.__index = Child

--- Starts argv with pipes as the flags say (see launch in lsubprocess.c).
---@param argv string[]
---@param env string[]? "NAME=value"
---@param cwd string?
---@param flags string
---@return mpengine.subprocess.Child? child
---@return string? message
---@return integer? errno
function subprocess.launch(argv, env, cwd, flags)
    reap_orphans()
    local pid, pidfd, stdin, stdout, stderr = core.launch(argv, env, cwd, flags)
    if not pid then return nil, pidfd, stdin end
    return setmetatable({ pid = pid, pidfd = pidfd, stdin = stdin, stdout = stdout, stderr = stderr }, Child)
end

--- Whether it has exited: "exit" or "signal" and the number.
function Child:poll()
    if not self.how then self.how, self.code = core.reap(self.pid) end
    if self.how then self:drop "pidfd" end
    return self.how, self.code
end

--- Closes one of its descriptors; harmless when it is closed.
function Child:drop(name)
    local fd = self[name]
    self[name] = nil
    if fd then core.fd_close(fd) end
end

--- Waits for its exit: "exit" or "signal" and the number | nil, "timeout".
function Child:wait(timeout)
    local deadline = timeout and core.now() + timeout
    while not self:poll() do
        local left = deadline and math.max(0, deadline - core.now())
        if left == 0 then return nil, "timeout" end
        if self.pidfd then
            core.wait_fd(self.pidfd, "r", left)
        else
            core.sleep(math.min(left or LOOK_SECONDS, LOOK_SECONDS))
        end
    end
    return self.how, self.code
end

--- Releases everything that waits for it.
function Child:abandon()
    self:drop "pidfd"
    orphans[#orphans + 1] = self.pid
end

--- Releases it: if it is still running, it is killed, unless it is detached.
function Child:__close()
    for _, name in ipairs { "stdin", "stdout", "stderr" } do self:drop(name) end
    if self:poll() then return end
    if self.detached then return self:abandon() end
    core.kill_pid(self.pid, SIGKILL)
    local _, ended = pcall(self.wait, self, REAP_SECONDS) -- the task may be ending itself
    if ended == "exit" or ended == "signal" then return end
    self:abandon()
end

--- Collected without a close, the program may go on running.
function Child:__gc()
    for _, name in ipairs { "stdin", "stdout", "stderr" } do self:drop(name) end
    if not self:poll() then self:abandon() end
end

-- ---- run -------------------------------------------------------------------------------------

--- Writes as much as the pipe takes; closes it after the last byte, or when it has no reader any
--- more.
local function feed(child, input)
    local last, why = core.fd_write(child.stdin, input.bytes, input.at)
    if last then input.at = last + 1 elseif why ~= "again" then input.at = #input.bytes + 1 end
    if input.at > #input.bytes then child:drop "stdin" end
end

local function drain(child, name, pieces)
    local piece, why = core.fd_read(child[name])
    if piece and piece ~= "" then
        pieces[#pieces + 1] = piece
    elseif why ~= "again" then
        child:drop(name)
    end
end

--- Reads and writes until both outputs are at end of file and the program has exited.
local function pump(child, input, outputs, deadline)
    while child.stdout or child.stderr or not child:poll() do
        local left = deadline and math.max(0, deadline - core.now())
        local readers = { child.stdout }
        readers[#readers + 1] = child.stderr
        if #readers == 0 then readers[1] = child.pidfd end
        if #readers == 0 then left = math.min(left or LOOK_SECONDS, LOOK_SECONDS) end
        local readable, writable = core.poll(readers, { child.stdin }, left)
        if not readable then
            if deadline and core.now() >= deadline then return nil, "timeout" end
            readable, writable = {}, {}
        end
        if child.stdin and writable[child.stdin] then feed(child, input) end
        for name, pieces in pairs(outputs) do
            if child[name] and readable[child[name]] then drain(child, name, pieces) end
        end
    end
    return child.how, child.code
end

local expected = {
    stdin = { "a string", function(v) return type(v) == "string" or type(v) == "number" end },
    timeout = { "a number of seconds, 0 or more", function(v) return type(v) == "number" and v >= 0 end },
    cwd = { "the name of a directory", function(v) return type(v) == "string" and not v:find "\0" end },
    env = { "a table", function(v) return type(v) == "table" end },
    detach = { "a boolean", function(v) return type(v) == "boolean" end },
}

local function check_fields(opts)
    for name, value in pairs(opts) do
        local field = expected[name]
        if not field and math.type(name) ~= "integer" then
            error(("run: unknown field '%s' (stdin, timeout, cwd, env, detach expected)"):format(tostring(name)), 3)
        end
        if field and not field[2](value) then
            error(("run: field '%s' must be %s, got %s"):format(name, field[1],
                type(value) == "number" and tostring(value) or type(value)), 3)
        end
    end
end

local function check_word(what, value)
    if type(value) ~= "string" and type(value) ~= "number" then
        error(("run: %s must be a string, got %s"):format(what, type(value)), 4)
    end
    value = tostring(value)
    if value:find("\0", 1, true) then error(("run: %s must not have a zero byte"):format(what), 4) end
    return value
end

local function words(opts)
    local argv = {}
    for i = 1, #opts do argv[i] = check_word("argument " .. i, opts[i]) end
    if not argv[1] then error("run: the name of a program expected as element 1", 3) end
    return argv
end

local function environment(env)
    if not env then return nil end
    local list = {}
    for name, value in pairs(env) do
        name = check_word("a name in 'env'", name)
        if name == "" or name:find("=", 1, true) then
            error(("run: a name in 'env' must not be '%s'"):format(name), 3)
        end
        list[#list + 1] = name .. "=" .. check_word(("'%s' in 'env'"):format(name), value)
    end
    return list
end

---@class mpengine.subprocess.Result
---@field status integer the exit status; -n when signal n ended it
---@field stdout string
---@field stderr string

--- Runs a program to its end: run{ "ls", "-l", stdin =, timeout =, cwd =, env = }. Without stdin it
--- has this program's; env replaces the whole environment. A timeout, a kill of the task, and the
--- exit of this process kill the program; with detach = true only the timeout does.
---@param opts table the words of the command, and the fields above
---@return mpengine.subprocess.Result? result
---@return string? message "timeout", or why it cannot be started
---@return { stdout: string, stderr: string }? printed until the timeout
function subprocess.run(opts)
    if type(opts) ~= "table" then
        check.fail("subprocess.run", 1, "table", opts)
    end
    check_fields(opts)
    local argv, env = words(opts), environment(opts.env)
    local deadline = opts.timeout and core.now() + opts.timeout
    local input = opts.stdin and { bytes = tostring(opts.stdin), at = 1 }
    core.sleep(0) -- a task that is killed starts nothing
    local flags = (input and "ioec" or "oec") .. (opts.detach and "d" or "")
    local launched, why = subprocess.launch(argv, env, opts.cwd, flags)
    if not launched then return nil, why end
    launched.detached = opts.detach
    local child <close> = launched
    if input and input.bytes == "" then child:drop "stdin" end
    local outputs = { stdout = {}, stderr = {} }
    local how, code = pump(child, input, outputs, deadline)
    local printed = { stdout = table.concat(outputs.stdout), stderr = table.concat(outputs.stderr) }
    if not how then
        child.detached = nil
        return nil, code, printed
    end
    printed.status = how == "exit" and code or -code
    return printed
end

return subprocess
