--- A started program: its process, its exit status, and this side's ends of its pipes as descriptors.
--- run, Popen, and the io.popen and os.execute of mpengine.monkey are built on it.
local core = require "mpengine.core"

local child = {}

local SIGKILL = 9
local REAP_SECONDS = 2 -- how long a killed program may take to be gone

-- Between two checks, when there is no descriptor to wait for: pidfds are refused, or no number is left.
-- The exit of a process that is no engine's is then told by SIGCHLD alone, whose handler is the host's.
local LOOK_SECONDS = 0.01

local STREAMS = { "stdin", "stdout", "stderr" }

-- Programs whose exit status no task asks for: they are reaped before the next one starts.
local orphans = {}

local function reap_orphans()
    for i = #orphans, 1, -1 do
        if core.reap(orphans[i]) then table.remove(orphans, i) end
    end
end

---@class mpengine.subprocess.Child
---@field pid integer
---@field owner integer the pid of the process that started it
---@field pidfd integer? readable when it has exited
---@field stdin integer? this side's ends of the pipes
---@field stdout integer?
---@field stderr integer?
---@field detached boolean? it outlives its starter
---@field how "exit"|"signal"|nil
---@field code integer?
local Child = { __name = "mpengine.subprocess.Child" }
Child.__index = Child

---@class mpengine.subprocess.Spec
---@field argv string[]
---@field env string[]? "NAME=value"
---@field cwd string?
---@field stdin "inherit"|"pipe"|"null"|integer|nil
---@field stdout "inherit"|"pipe"|"null"|integer|nil
---@field stderr "inherit"|"pipe"|"null"|"stdout"|integer|nil
---@field detach boolean? it outlives this process
---@field closes boolean? it gets the standard descriptors and no others

--- Starts a program.
---@param spec mpengine.subprocess.Spec
---@return mpengine.subprocess.Child? child
---@return string? message
---@return integer? errno
function child.launch(spec)
    reap_orphans()
    local stderr, flags = spec.stderr, (spec.closes and "c" or "") .. (spec.detach and "d" or "")
    if stderr == "stdout" then stderr, flags = "inherit", flags .. "j" end
    local self = { owner = core.pid(), detached = spec.detach }
    local pid, why, errno
    pid, self.pidfd, self.stdin, self.stdout, self.stderr =
        core.launch(spec.argv, spec.env, spec.cwd, flags, spec.stdin, spec.stdout, stderr)
    if not pid then
        why, errno = self.pidfd, self.stdin
        return nil, why, errno
    end
    self.pid = pid
    return setmetatable(self, Child)
end

--- Whether it has exited: "exit" or "signal" and the number.
function Child:poll()
    if not self.how then self.how, self.code = core.reap(self.pid) end
    if self.how then self:drop "pidfd" end
    return self.how, self.code
end

--- Its exit status, -n when signal n ended it; nil while it runs.
function Child:status()
    local how, code = self:poll()
    return how and (how == "exit" and code or -code)
end

--- Closes one of its descriptors; harmless when it is closed.
function Child:drop(name)
    local fd = self[name]
    self[name] = nil
    if fd then core.fd_close(fd) end
end

--- Waits for an event that may be its exit, so many seconds at most.
function Child:wait_event(seconds)
    if self.pidfd then
        core.wait_fd(self.pidfd, "r", seconds)
    else
        core.sleep(math.min(seconds or LOOK_SECONDS, LOOK_SECONDS))
    end
end

--- Waits for its exit: "exit" or "signal" and the number | nil, "timeout".
function Child:wait(timeout)
    local deadline = timeout and core.now() + timeout
    local left = timeout
    while not self:poll() do
        if deadline and left <= 0 then return nil, "timeout" end
        self:wait_event(left)
        left = deadline and math.max(0, deadline - core.now())
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
    for _, name in ipairs(STREAMS) do self:drop(name) end
    if self:poll() then return end
    if self.detached then return self:abandon() end
    core.kill_pid(self.pid, SIGKILL)
    local _, ended = pcall(self.wait, self, REAP_SECONDS) -- the task may be ending itself
    if ended == "exit" or ended == "signal" then return end
    self:abandon()
end

--- Collected without a close, the program may go on running.
function Child:__gc()
    for _, name in ipairs(STREAMS) do self:drop(name) end
    if not self:poll() then self:abandon() end
end

return child
