--- mp.co: tasks, and the objects they use to wait for each other inside one process.
local core = require "mpengine.core"
local tasks = require "mpengine.co.tasks"
local waiting = require "mpengine.co.wait"
local cancel = require "mpengine.co.cancel"
local locks = require "mpengine.co.locks"
local events = require "mpengine.co.events"
local queues = require "mpengine.co.queue"
local group = require "mpengine.co.group"
require "mpengine.co.ending"

return {
    spawn = core.spawn_task,
    spawn_later = tasks.spawn_later,
    current = tasks.current,
    killall = tasks.killall,
    sleep = core.sleep,
    joinall = waiting.joinall,
    wait = waiting.wait,
    iwait = waiting.iwait,
    with_timeout = cancel.with_timeout,
    scope = cancel.scope,
    watchdog = core.watchdog,
    Event = events.Event,
    AsyncResult = events.AsyncResult,
    Queue = queues.Queue,
    JoinableQueue = queues.JoinableQueue,
    SimpleQueue = queues.SimpleQueue,
    Lock = locks.Lock,
    RLock = locks.RLock,
    Semaphore = locks.Semaphore,
    BoundedSemaphore = locks.BoundedSemaphore,
    Condition = locks.Condition,
    Group = group.Group,
    Pool = group.Pool,
    Local = require "mpengine.co.locals",
    offload = require "mpengine.co.offload",
    every = require "mpengine.co.every",
    wait_fd = require "mpengine.co.descriptor",
}
