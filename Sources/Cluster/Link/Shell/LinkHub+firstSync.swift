package import NIOCore

extension LinkHub {
    /// Waits until there are peers and all of them are in step: what their clients subscribe to and what they retain is
    /// known here. To be called once, at the start.
    ///
    /// - Returns: false if that took longer than `timeout`, or is not waited for any more.
    package func whenInStep(within timeout: TimeAmount) -> EventLoopFuture<Bool> {
        guard !self.isFirstSyncOver else { return self.loop.makeSucceededFuture(false) }
        let promise = self.loop.makePromise(of: Bool.self)
        self.firstSync = promise
        self.loop.assumeIsolated().scheduleTask(in: timeout) { [weak self] in self?.finishFirstSync(false) }
        self.onProgress()
        return promise.futureResult
    }

    /// A peer is further than before, or gone.
    func onProgress() {
        guard self.firstSync != nil, self.isInStep else { return }
        self.finishFirstSync(true)
    }

    func finishFirstSync(_ isInStep: Bool) {
        self.isFirstSyncOver = true
        self.firstSync.take()?.succeed(isInStep)
    }
}
